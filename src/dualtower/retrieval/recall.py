"""How much of the exact answer an index finds, and the effort that finds enough."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualtower.errors import DataError
from dualtower.retrieval.index import Index
from dualtower.retrieval.interests import search_pairs

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

    An item as good as the k-th best counts as found, so ties do not lower the recall. Of a query
    with several interests k items are searched for each, and those found are merged.

    Args:
        index: what to measure.
        queries: `[queries, dim]` or `[queries, interests, dim]`, at least one.
        k: items per query; the whole corpus where it is smaller.

    Raises:
        DataError: no queries.
    """
    queries = _with_interests(queries)
    return _recall(index, queries, min(k, len(index)), _kth_scores(index, queries, k))


def tune_effort(index: Index, queries: npt.NDArray[np.float32], k: int) -> IndexRecall:
    """Raise `index.effort` step by step until its recall is enough, or all has been tried.

    Enough is a mean of at least 0.99 and a first percentile of at least 0.90.

    Args:
        index: its effort is changed in place.
        queries: what it is tuned for, `[queries, dim]` or `[queries, interests, dim]`, at least
            one.
        k: items per query.

    Returns:
        The recall at the effort it ends with.

    Raises:
        DataError: no queries.
    """
    queries = _with_interests(queries)
    kth = _kth_scores(index, queries, k)
    k = min(k, len(index))
    while True:
        recall = _recall(index, queries, k, kth)
        enough = recall.mean >= MEAN_TARGET and recall.first_percentile >= FIRST_PERCENTILE_TARGET
        if enough or index.is_exact or index.effort >= index.most_effort:
            return recall
        index.effort = min(index.most_effort, max(index.effort + 1, index.effort * 5 // 4))


def _with_interests(queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return queries[:, None] if queries.ndim == 2 else queries


def _kth_scores(index: Index, queries: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.float32]:
    if len(queries) == 0:
        raise DataError("recall of an index: no queries to measure it on; give at least one")
    k = min(k, len(index))
    return index.scan.top(queries, k).scores[:, -1]


def _recall(
    index: Index, queries: npt.NDArray[np.float32], k: int, kth: npt.NDArray[np.float32]
) -> IndexRecall:
    found = search_pairs(index, queries, k)
    good = found.query[found.score >= kth[found.query]]
    share = np.minimum(np.bincount(good, minlength=len(queries)), k) / k
    return IndexRecall(
        mean=float(share.mean()),
        first_percentile=float(np.quantile(share, 0.01, method="lower")),
        minimum=float(share.min()),
    )
