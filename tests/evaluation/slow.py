"""Ranks and metrics one query at a time in plain Python: slow, and independent of the package."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import FeatureSpace, QueryBatch
from dualtower.models.base import Model, VectorModel


class GivenScores(Model):
    """Scores handed over, one row per query row and one column per item row."""

    name = "given"

    def __init__(self, scores: npt.NDArray[np.float32]) -> None:
        self._scores = scores

    @property
    def fitted(self) -> bool:
        return True

    def score(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        return self._scores[batch.rows]

    def state(self) -> dict[str, npt.NDArray]:
        return {}

    @classmethod
    def from_state(cls, config: dict, space: FeatureSpace, state: dict) -> "GivenScores":
        raise NotImplementedError


class GivenVectors(VectorModel):
    """Vectors handed over, one per query row and item row."""

    name = "given_vectors"

    def __init__(self, queries: npt.NDArray[np.float32], items: npt.NDArray[np.float32]) -> None:
        self._queries, self._items = queries, items

    @property
    def fitted(self) -> bool:
        return True

    def encode_queries(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        return self._queries[batch.rows]

    def encode_items(self) -> npt.NDArray[np.float32]:
        return self._items

    def state(self) -> dict[str, npt.NDArray]:
        return {}

    @classmethod
    def from_state(cls, config: dict, space: FeatureSpace, state: dict) -> "GivenVectors":
        raise NotImplementedError


def slow_ranks(
    scores: npt.NDArray[np.float32],
    history: Sequence[int],
    targets: Sequence[int],
    corpus: Sequence[int],
    exclude_seen: bool,
) -> dict[int, float]:
    """The rank of each distinct target of one query that is left, by item row."""
    seen = set(history) if exclude_seen else set()
    ranks = {}
    for target in sorted(set(targets)):
        if target in seen:
            continue
        if target not in set(corpus):
            ranks[target] = math.inf
            continue
        better = equal = 0
        for item in corpus:
            if item == target or item in seen:
                continue
            better += scores[item] > scores[target]
            equal += scores[item] == scores[target]
        ranks[target] = 1 + better + equal / 2
    return ranks


def slow_metrics(ranks: Sequence[float], cutoff: int) -> dict[str, float]:
    """The metrics of one query from its targets' ranks."""
    within = [rank for rank in ranks if rank <= cutoff]
    ideal = sum(1 / math.log2(1 + place) for place in range(1, min(cutoff, len(ranks)) + 1))
    return {
        f"hit_rate@{cutoff}": float(len(within) > 0),
        f"recall@{cutoff}": len(within) / len(ranks),
        f"ndcg@{cutoff}": sum(1 / math.log2(1 + rank) for rank in within) / ideal,
        "mrr": max(1 / rank for rank in ranks),
    }
