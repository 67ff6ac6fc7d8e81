from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualtower.data.dataset import Dataset
from dualtower.errors import BundleError
from dualtower.schema import Feature, FeatureKind, Schema


def full_dataset() -> Dataset:
    log = pl.DataFrame(
        {
            "user_id": ["a", "a", "b", "b"],
            "item_id": [1, 2, 2, 3],
            "timestamp": [10**9, 2 * 10**9, 10**9, 2 * 10**9],
            "weight": [1.0, 2.0, 3.0, 4.0],
            "split": ["train", "test"] * 2,
            "hour": [1, 2, 3, 4],
        }
    )
    items = pl.DataFrame({"item_id": [1, 2, 3], "kind": ["x", "y", "x"], "image": [[1.0, 2.0]] * 3})
    queries = pl.DataFrame({"user_id": ["a", "b"], "seen": [[1, 2], [3]]})
    schema = Schema(
        timestamp="timestamp",
        weight="weight",
        split="split",
        category="kind",
        item_features=(
            Feature(name="kind"),
            Feature(name="image", kind=FeatureKind.VECTOR),
        ),
        query_features=(Feature(name="seen", kind=FeatureKind.SEQUENCE),),
        context_features=(Feature(name="hour", kind=FeatureKind.NUMERIC),),
    )
    return Dataset.from_frames(log, items, queries, schema)


def test_everything_comes_back(tmp_path: Path) -> None:
    dataset = full_dataset()
    dataset.save(tmp_path / "dataset")
    loaded = Dataset.load(tmp_path / "dataset")
    assert isinstance(loaded.items, np.memmap)
    for name in ("offsets", "items", "times", "weights", "split", "item_categories"):
        assert np.array_equal(getattr(loaded, name), getattr(dataset, name)), name
    for side in ("query_features", "item_features", "context_features"):
        for name, column in getattr(dataset, side).items():
            other = getattr(loaded, side)[name]
            assert np.array_equal(column.values, other.values), name
            assert (column.offsets is None) == (other.offsets is None)
    for name in ("schema", "numeric_scales", "source"):
        assert getattr(loaded, name) == getattr(dataset, name), name
    assert loaded.space() == dataset.space()
    assert loaded.query_vocabulary.values.to_list() == ["a", "b"]
    assert loaded.feature_vocabularies["item/kind"].values.to_list() == ["x", "y"]


def test_one_byte_changed_in_any_file_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    full_dataset().save(folder)
    files = sorted(folder.iterdir())
    assert len(files) > 15
    for file in files:
        content = file.read_bytes()
        middle = len(content) // 2
        changed = bytes([content[middle] ^ 1])
        file.write_bytes(content[:middle] + changed + content[middle + 1 :])
        with pytest.raises(BundleError):
            Dataset.load(folder)
        file.write_bytes(content)
    assert Dataset.load(folder).event_count == 4


def test_a_missing_folder_file_or_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder; it should hold a dualtower-dataset"):
        Dataset.load(tmp_path / "nothing")
    full_dataset().save(tmp_path / "dataset")
    (tmp_path / "dataset" / "items.npy").unlink()
    with pytest.raises(BundleError, match=r"items\.npy: missing"):
        Dataset.load(tmp_path / "dataset")
    (tmp_path / "dataset" / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest\.json or its \.sha256 is missing"):
        Dataset.load(tmp_path / "dataset")


def test_a_memory_mapped_dataset_can_be_saved_over_itself(tmp_path: Path) -> None:
    full_dataset().save(tmp_path / "dataset")
    Dataset.load(tmp_path / "dataset").save(tmp_path / "dataset")
    assert Dataset.load(tmp_path / "dataset").items.tolist() == full_dataset().items.tolist()
