"""Sparse query-item matrices that the floors are solved and scored with."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from dualtower.data.columns import QueryBatch, Ragged
from dualtower.data.dataset import Log


def interaction_matrix(log: Log, queries: npt.NDArray[np.int64] | None = None) -> sparse.csr_array:
    """Which query has which item among its target events: ones, `[queries, items]`.

    Repeats of a pair count once.

    Args:
        log: the view.
        queries: query rows; None: all that have a target.
    """
    targets = log.targets(log.queries() if queries is None else queries)
    return _matrix(targets, np.ones(len(targets.values), dtype=np.float32), log.dataset.item_count)


def history_matrix(batch: QueryBatch, item_count: int, decay: float = 1.0) -> sparse.csr_array:
    """The histories of a batch, `[queries, items]`.

    Args:
        batch: queries with their history.
        item_count: rows of the item vocabulary.
        decay: weight of an event relative to the next later one, in (0, 1]; an item that occurs
            several times has the weight of its latest event.
    """
    history = batch.history
    lag = history.offsets[1:][history.row_of_value()] - 1 - np.arange(len(history.values))
    return _matrix(history, np.power(decay, lag).astype(np.float32), item_count)


def _matrix(lists: Ragged, weights: npt.NDArray[np.float32], item_count: int) -> sparse.csr_array:
    """One row per list; of a repeated item the last weight counts."""
    keys = lists.row_of_value() * item_count + lists.values
    pairs, from_end = np.unique(keys[::-1], return_index=True)
    kept = weights[len(keys) - 1 - from_end]
    offsets = np.searchsorted(pairs, np.arange(len(lists) + 1) * item_count)
    return sparse.csr_array(
        (kept, pairs % item_count, offsets), shape=(len(lists), item_count), dtype=np.float32
    )
