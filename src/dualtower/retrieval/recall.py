"""How much of the exact answer an index finds, and the effort that finds enough."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualtower.errors import DataError
from dualtower.retrieval.index import Index

MEAN_TARGET = 0.99
"""The mean recall that `tune_effort` aims at."""
FIRST_PERCENTILE_TARGET = 0.90
"""The first percentile of recall that `tune_effort` aims at: a mean hides the worst queries."""


@dataclass(frozen=True)
class IndexRecall:
    """Recall of an index against exact search, over queries; each in 0 … 1."""

    mean: float
    """Mean over the queries."""
    first_percentile: float
    """All but one in a hundred queries have at least this recall."""
    minimum: float
    """The worst query's."""


def measure_recall(index: Index, queries: npt.NDArray[np.float32], k: int) -> IndexRecall:
    """The share of each query's k best items that the index returns among its k.

    An item as good as the k-th best counts as found, so ties do not lower the recall.

    Args:
        index: what to measure.
        queries: `[queries, dim]`, at least one.
        k: items per query; the whole corpus where it is smaller.

    Raises:
        DataError: no queries.
    """
    return _recall(index, queries, min(k, len(index)), _kth_scores(index, queries, k))


def tune_effort(index: Index, queries: npt.NDArray[np.float32], k: int) -> IndexRecall:
    """Raise `index.effort` step by step until its recall is enough, or all has been tried.

    Enough is a mean of at least 0.99 and a first percentile of at least 0.90.

    Args:
        index: its effort is changed in place.
        queries: what it is tuned for, `[queries, dim]`, at least one.
        k: items per query.

    Returns:
        The recall at the effort it ends with.

    Raises:
        DataError: no queries.
    """
    kth = _kth_scores(index, queries, k)
    k = min(k, len(index))
    while True:
        recall = _recall(index, queries, k, kth)
        enough = recall.mean >= MEAN_TARGET and recall.first_percentile >= FIRST_PERCENTILE_TARGET
        if enough or index.is_exact or index.effort >= index.most_effort:
            return recall
        index.effort = min(index.most_effort, max(index.effort + 1, index.effort * 5 // 4))


def _kth_scores(index: Index, queries: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
    if len(queries) == 0:
        raise DataError("recall of an index: no queries to measure it on; give at least one")
    k = min(k, len(index))
    return index.scan.top(queries[:, None], k).scores[:, -1]


def _recall(
    index: Index, queries: npt.NDArray[np.float32], k: int, kth: npt.NDArray[np.float32]
) -> IndexRecall:
    scores, _ = index.search(queries, k)
    found = (scores >= kth[:, None]).mean(axis=1)
    return IndexRecall(
        mean=float(found.mean()),
        first_percentile=float(np.quantile(found, 0.01, method="lower")),
        minimum=float(found.min()),
    )
