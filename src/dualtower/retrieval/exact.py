"""Exact inner products: scores of given pairs, and the best items by a scan of all of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import Ragged
from dualtower.errors import DataError

LEAST_LENGTH = 1e-30
"""What a vector's length counts as at least, so that one of zeros can be divided by it."""
_PAIRS_AT_ONCE = 1 << 17
_SCORES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Candidates:
    """The best items of each query, best first; equal scores stand in order of position."""

    positions: npt.NDArray[np.int64]
    """Positions in the corpus, `[queries, n]`; -1 where a query has no more items."""
    scores: npt.NDArray[np.float32]
    """Inner products (their maximum over a query's interests), `[queries, n]`; -inf beside -1."""

    @classmethod
    def empty(cls, queries: int, n: int) -> "Candidates":
        """No items yet for any query."""
        return cls(
            np.full((queries, n), -1, dtype=np.int64),
            np.full((queries, n), -np.inf, dtype=np.float32),
        )

    def counts(self) -> npt.NDArray[np.int64]:
        """How many items each query got, `[queries]`."""
        counts: npt.NDArray[np.int64] = (self.positions >= 0).sum(axis=1, dtype=np.int64)
        return counts

    def short(self) -> npt.NDArray[np.bool_]:
        """Which queries got fewer than n items: no more exist for them, `[queries]`."""
        short: npt.NDArray[np.bool_] = self.counts() < self.positions.shape[1]
        return short


def checked_vectors(vectors: npt.NDArray[np.floating], what: str) -> npt.NDArray[np.float32]:
    """`vectors` as contiguous float32 `[..., dim]` whose inner products are finite numbers.

    Args:
        vectors: two axes or three, the last one the dimension.
        what: how an error names them ("item vectors").

    Raises:
        DataError: NaN or infinite values, or values so large that products overflow.
    """
    result = np.ascontiguousarray(vectors, dtype=np.float32)
    if result.ndim not in (2, 3) or result.shape[-1] == 0:
        raise DataError(
            f"{what}: an array of shape {list(result.shape)}; "
            "it should be [count, dim] or [count, interests, dim]"
        )
    with np.errstate(over="ignore"):
        squares = np.einsum("...d,...d->...", result, result)
    if not np.isfinite(squares).all():
        first = np.argwhere(~np.isfinite(squares))[0]
        raise DataError(
            f"{what}: row {int(first[0])} (counted from 0) holds NaN, infinite or huge values; "
            "all should be finite: look at the learning rate and at the numeric features"
        )
    return result


def unit_vectors(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Vectors of length 1 in the same directions, `[items, dim]`; one of zeros stays so."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = vectors / np.maximum(lengths, LEAST_LENGTH)
    return unit


def pair_scores(
    queries: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.float32],
    query_of_pair: npt.NDArray[np.int64],
    positions: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """The score of each pair, computed alike wherever it stands in a batch.

    Matrix products may round the same pair differently from batch to batch; these scores do not
    differ, so that equal vectors have equal scores and ties can be broken by position.

    Args:
        queries: `[queries, interests, dim]`.
        vectors: `[items, dim]`.
        query_of_pair: `[pairs]`.
        positions: item of each pair, `[pairs]`.
    """
    scores = np.empty(len(positions), dtype=np.float32)
    for start in range(0, len(positions), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        left, right = queries[query_of_pair[part]], vectors[positions[part]]
        scores[part] = np.einsum("pid,pd->pi", left, right).max(axis=1)
    return scores


def lowest_kept(
    scores: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    longest: float,
    n: int,
) -> npt.NDArray[np.float32]:
    """Below each query's n-th best score by more than rounding can move a score, `[queries]`.

    Finite, so that what has -inf is below it. Items from it on are the ones to compare exactly.

    Args:
        scores: by a matrix product, `[queries, items]`.
        queries: `[queries, interests, dim]`.
        longest: the greatest length of an item's vector.
        n: items per query, from 1.
    """
    last = max(0, scores.shape[1] - n)
    nth = np.partition(scores, last, axis=1)[:, last]
    norms = np.sqrt(np.einsum("qid,qid->qi", queries, queries).max(axis=1))
    rounding = 4 * queries.shape[2] * np.finfo(np.float32).eps * norms * longest
    lowest: npt.NDArray[np.float32] = np.maximum(nth - rounding, np.finfo(np.float32).min)
    return lowest.astype(np.float32, copy=False)


def best_of_pairs(
    query_of_pair: npt.NDArray[np.int64],
    positions: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    queries: int,
    n: int,
) -> Candidates:
    """The n best pairs of each query, by score and then position.

    Args:
        query_of_pair: `[pairs]`, in 0 … queries - 1.
        positions: item of each pair, `[pairs]`, no pair twice.
        scores: `[pairs]`.
        queries: how many queries there are.
        n: how many items each gets at most.
    """
    order = np.lexsort((positions, -scores, query_of_pair))
    query = query_of_pair[order]
    begins = np.searchsorted(query, np.arange(queries))
    rank = np.arange(len(order)) - begins[query]
    kept = rank < n
    result = Candidates.empty(queries, n)
    result.positions[query[kept], rank[kept]] = positions[order[kept]]
    result.scores[query[kept], rank[kept]] = scores[order[kept]]
    return result


class ExactScan:
    """Finds the best items by looking at all of them, or at all that are allowed."""

    def __init__(self, vectors: npt.NDArray[np.float32]) -> None:
        """Scan checked `vectors`, `[items, dim]`."""
        self.vectors = vectors
        self._longest = float(np.sqrt(np.einsum("id,id->i", vectors, vectors).max()))

    def top(
        self,
        queries: npt.NDArray[np.float32],
        n: int,
        *,
        exclude: Ragged | None = None,
        allowed: npt.NDArray[np.int64] | None = None,
    ) -> Candidates:
        """The n best items of each query, or fewer where fewer exist.

        Args:
            queries: `[queries, interests, dim]`.
            n: items per query.
            exclude: positions left out for each query.
            allowed: the only positions looked at, ascending; all when None.
        """
        pool = self.vectors if allowed is None else self.vectors[allowed]
        result = Candidates.empty(len(queries), n)
        if len(pool) == 0:
            return result
        interests = queries.shape[1]
        rows_at_once = max(1, _SCORES_AT_ONCE // (len(pool) * interests))
        for start in range(0, len(queries), rows_at_once):
            rows = slice(start, start + rows_at_once)
            block = queries[rows]
            scores = block.reshape(-1, block.shape[2]) @ pool.T
            if interests > 1:
                scores = scores.reshape(len(block), interests, len(pool)).max(axis=1)
            if exclude is not None:
                _mask(scores, exclude.take(np.arange(start, start + len(block))), allowed)
            lowest = lowest_kept(scores, block, self._longest, n)
            query_of_pair, column = np.nonzero(scores >= lowest[:, None])
            positions = column if allowed is None else allowed[column]
            exact = pair_scores(block, self.vectors, query_of_pair, positions)
            found = best_of_pairs(query_of_pair, positions, exact, len(block), n)
            result.positions[rows], result.scores[rows] = found.positions, found.scores
        return result


def _mask(
    scores: npt.NDArray[np.float32], exclude: Ragged, allowed: npt.NDArray[np.int64] | None
) -> None:
    row, column = exclude.row_of_value(), exclude.values.astype(np.int64)
    if allowed is not None:
        position = column
        column = np.minimum(np.searchsorted(allowed, position), len(allowed) - 1)
        inside = allowed[column] == position
        row, column = row[inside], column[inside]
    scores[row, column] = -np.inf
