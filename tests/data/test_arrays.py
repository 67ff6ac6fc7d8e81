from pathlib import Path

import numpy as np
import pytest

from dualtower.data.arrays import (
    ArrayWriter,
    Events,
    EventWriter,
    memory_map,
    query_chunks,
    read_events,
    save_array,
)
from dualtower.data.columns import FeatureColumn
from dualtower.schema import Feature, FeatureKind


def test_appended_rows_are_one_array(tmp_path: Path) -> None:
    writer = ArrayWriter(tmp_path / "a.npy")
    for start in range(0, 3000, 1000):
        writer.append(np.arange(start * 2, (start + 1000) * 2, dtype=np.int32).reshape(-1, 2))
    writer.close()
    loaded = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert np.array_equal(loaded, np.arange(6000, dtype=np.int32).reshape(-1, 2))
    assert np.array_equal(memory_map(tmp_path / "a.npy"), loaded)


def test_an_empty_array_can_be_opened(tmp_path: Path) -> None:
    writer = ArrayWriter(tmp_path / "a.npy")
    writer.append(np.zeros(0, dtype=np.int64))
    writer.close()
    assert memory_map(tmp_path / "a.npy").shape == (0,)


def test_ragged_context_is_joined_across_pieces(tmp_path: Path) -> None:
    tags = Feature(name="tags", kind=FeatureKind.MULTI_VALUED)
    writer = EventWriter(tmp_path)
    for values, lengths in (([1, 2, 3], [1, 2]), ([], [0]), ([4], [0, 1])):
        column = FeatureColumn(
            tags,
            np.array(values, dtype=np.int32),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        )
        items = np.ones(len(lengths), dtype=np.int32)
        writer.append(Events(items, context={"tags": column}))
    writer.close()
    events = read_events(tmp_path, (tags,), memory_map)
    column = events.context["tags"]
    assert column.values.tolist() == [1, 2, 3, 4]
    assert column.offsets is not None
    assert column.offsets.tolist() == [0, 1, 3, 3, 3, 4]
    taken = events.take(np.array([4, 1])).context["tags"]
    assert taken.values.tolist() == [4, 2, 3]


def test_chunks_cover_all_rows_once_and_respect_the_size() -> None:
    offsets = np.array([0, 0, 3, 4, 14, 15, 16, 16], dtype=np.int64)
    chunks = list(query_chunks(offsets, 4))
    assert chunks == [(0, 3), (3, 4), (4, 7)]


def test_an_array_reads_back(tmp_path: Path) -> None:
    for array in (np.arange(6, dtype=np.float32).reshape(3, 2).T, np.zeros((0, 3), dtype=np.int8)):
        save_array(tmp_path / "a.npy", array)
        found = np.load(tmp_path / "a.npy", allow_pickle=False)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_reported_for_every_length() -> None:
    for length in (1, 1000, 100_000):
        with pytest.raises(OSError, match="No space left"):
            save_array(Path("/dev/full"), np.zeros(length))
