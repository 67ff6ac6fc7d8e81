"""Metrics from ranks: one value per query first, so that models can be compared query by query."""

import re

import numpy as np
import numpy.typing as npt

from dualtower.errors import ConfigError
from dualtower.evaluation.ranking import Ranking


def parse_metric(name: str) -> int | None:
    """The k of a metric of one query, None for `mrr`.

    Args:
        name: mrr, hit_rate@k, recall@k or ndcg@k.

    Raises:
        ConfigError: there is no such metric, or k is not a whole number from 1.
    """
    if name == "mrr":
        return None
    kind, _, cutoff = name.partition("@")
    if kind in ("hit_rate", "recall", "ndcg") and re.fullmatch(r"[1-9][0-9]{0,5}", cutoff):
        return int(cutoff)
    raise ConfigError(
        f"validation_metric: {name!r} is not a metric; use mrr, hit_rate@k, recall@k or ndcg@k, "
        "k a whole number above 0"
    )


def per_query_metrics(
    ranking: Ranking, cutoffs: tuple[int, ...]
) -> dict[str, npt.NDArray[np.float64]]:
    """Every metric's value for every query.

    `hit_rate@k` is 1 when any target's rank is at most k; `mrr` the reciprocal rank of the best
    target in the full ranking; `recall@k` the share of the query's targets within k; `ndcg@k` the
    sum of 1 / log2(1 + rank) over targets within k, divided by the same sum over ranks
    1 … min(k, targets). A rank of 10.5 (a tie) is not within 10.

    Args:
        ranking: the ranks of all targets.
        cutoffs: the values of k.

    Returns:
        By name, each `[queries]`, in [0, 1].
    """
    queries, ranks = ranking.query, ranking.ranks
    count = len(ranking.queries)
    targets = np.bincount(queries, minlength=count)
    gains = 1 / np.log2(1 + ranks)
    best_possible = np.concatenate([[0], np.cumsum(1 / np.log2(2 + np.arange(max(cutoffs))))])
    values = {}
    for cutoff in cutoffs:
        within = ranks <= cutoff
        hits = np.bincount(queries[within], minlength=count)
        gained = np.bincount(queries[within], weights=gains[within], minlength=count)
        values[f"hit_rate@{cutoff}"] = (hits > 0).astype(np.float64)
        values[f"recall@{cutoff}"] = hits / targets
        values[f"ndcg@{cutoff}"] = gained / best_possible[np.minimum(cutoff, targets)]
    best = np.full(count, np.inf)
    np.minimum.at(best, queries, ranks)
    values["mrr"] = 1 / best
    return values


def per_target_metrics(
    ranks: npt.NDArray[np.float64], cutoffs: tuple[int, ...]
) -> dict[str, npt.NDArray[np.float64]]:
    """`hit_rate@k` and `mrr` of every target by itself, for means over groups of items.

    Args:
        ranks: `[targets]`, infinity for a miss.
        cutoffs: the values of k.
    """
    hits = {f"hit_rate@{cutoff}": (ranks <= cutoff).astype(np.float64) for cutoff in cutoffs}
    return {**hits, "mrr": 1 / ranks}


def coverage(top: npt.NDArray[np.int64], cutoff: int, corpus_size: int) -> float:
    """The share of the corpus that stands in at least one query's top `cutoff`.

    Args:
        top: item rows, best first, `[queries, at least cutoff]`; 0 means none.
        cutoff: length of the lists.
        corpus_size: number of items that may be recommended.
    """
    times_recommended = np.bincount(top[:, :cutoff].ravel(), minlength=1)
    return float(np.count_nonzero(times_recommended[1:]) / corpus_size)
