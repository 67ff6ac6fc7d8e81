import numpy as np
import pytest

from dualtower.data import arrays, notes
from dualtower.data.columns import FeatureColumn
from dualtower.schema import Feature, FeatureKind


def test_long_lists_of_queries_with_few_events_are_looked_at_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrays, "CHUNK_EVENTS", 50)
    sizes = []
    whole = np.intersect1d

    def counting(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        sizes.append(len(first) + len(second))
        return whole(first, second)

    monkeypatch.setattr(notes.np, "intersect1d", counting)
    queries = 40
    offsets = np.concatenate([[0, 0], np.arange(1, queries + 1)])  # row 0 is the unknown
    feature = Feature(name="history", kind=FeatureKind.SEQUENCE)
    lists = np.tile(np.arange(1, 11, dtype=np.int32), queries)
    column = FeatureColumn(feature, lists, offsets * 10)
    items = np.repeat(np.array([10, 11], dtype=np.int32), queries // 2)
    (note,) = notes.own_item_notes(offsets, items, {"history": column})
    assert "the lists of 20 of 40 queries" in note
    assert max(sizes) <= 50
    assert sum(sizes) == 11 * queries
