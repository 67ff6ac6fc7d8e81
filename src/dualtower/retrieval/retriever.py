"""Exactly N unseen items per query: over-fetch from the index, and scan where that falls short."""

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import Ragged
from dualtower.errors import ConfigError, DataError
from dualtower.retrieval.exact import (
    Candidates,
    best_of_pairs,
    checked_vectors,
)
from dualtower.retrieval.index import Index
from dualtower.retrieval.interests import search_pairs

SPARE = 8
"""Items fetched beyond what is needed, to see whether a tie is cut off."""
MOST_EXCLUDED_FETCHED = 1_024
"""A query that excludes more fetches no more: seldom are all of them among its nearest."""
SCAN_SHARE = 4
"""One in so many items and fewer are scanned rather than searched for and filtered."""


class Retriever:
    """Queries to candidates, by positions in the corpus.

    Every query gets exactly the n best items that are neither excluded nor filtered away, or all
    of them where fewer than n exist (`Candidates.short`). The answer is exact where the index is,
    and wherever a scan was needed.
    """

    def __init__(self, index: Index) -> None:
        """Serve the vectors of `index`."""
        self.index = index

    def retrieve(
        self,
        queries: npt.NDArray[np.float32],
        n: int,
        *,
        exclude: Ragged | None = None,
        allowed: npt.NDArray[np.int64] | None = None,
    ) -> Candidates:
        """The n best items of each query; equal scores in order of position.

        Args:
            queries: `[queries, dim]`, or `[queries, interests, dim]`, of which an item's best
                counts.
            n: items per query, at least 1.
            exclude: positions left out for each query (what it has seen); repeats do no harm.
            allowed: the only positions that may be returned (a category), for all queries.

        Raises:
            ConfigError: n is below 1.
            DataError: queries of another dimension or with NaN; positions outside the corpus.
        """
        if n < 1:
            raise ConfigError(f"n: {n} items asked for; it should be 1 or more")
        queries = self._checked_queries(queries)
        size = len(self.index)
        if exclude is None:
            exclude = _none_excluded(len(queries))
        elif len(exclude) != len(queries):
            raise DataError(f"exclude: {len(exclude)} lists for {len(queries)} queries")
        _check_range(exclude.values, size, "exclude")
        if allowed is not None:
            allowed = np.unique(np.asarray(allowed, dtype=np.int64))
            _check_range(allowed, size, "allowed")
        share = 1.0 if allowed is None else len(allowed) / size
        if share * SCAN_SHARE <= 1:
            return self.index.scan.top(queries, n, exclude=exclude, allowed=allowed)

        wanted = n + np.minimum(exclude.lengths(), MOST_EXCLUDED_FETCHED)
        fetch = np.ceil(wanted / share).astype(np.int64) + SPARE
        scanned = fetch * SCAN_SHARE >= size
        result = Candidates.empty(len(queries), n)
        # Queries that fetch about as much are searched together, so that one with a long past
        # does not make the others fetch as much as it needs.
        magnitude = np.where(scanned, -1, np.ceil(np.log2(fetch)).astype(np.int64))
        for group in np.unique(magnitude[~scanned]):
            rows = np.flatnonzero(magnitude == group)
            found, complete = self._search(
                queries[rows], n, int(fetch[rows].max()), exclude.take(rows), allowed
            )
            result.positions[rows], result.scores[rows] = found.positions, found.scores
            scanned[rows] = ~complete
        rows = np.flatnonzero(scanned)
        if len(rows) > 0:
            found = self.index.scan.top(
                queries[rows], n, exclude=exclude.take(rows), allowed=allowed
            )
            result.positions[rows], result.scores[rows] = found.positions, found.scores
        return result

    def _search(
        self,
        queries: npt.NDArray[np.float32],
        n: int,
        fetch: int,
        exclude: Ragged,
        allowed: npt.NDArray[np.int64] | None,
    ) -> tuple[Candidates, npt.NDArray[np.bool_]]:
        """The n best of what the index returns, and for which queries that is the answer."""
        found = search_pairs(self.index, queries, fetch)
        size = len(self.index)
        kept = ~_contained(found.query * size + found.position, _pairs(exclude, size))
        if allowed is not None:
            kept &= _contained(found.position, allowed)
        best = best_of_pairs(
            found.query[kept], found.position[kept], found.score[kept], len(queries), n
        )
        return best, (best.positions[:, -1] >= 0) & (best.scores[:, -1] > found.unfetched)

    def _checked_queries(self, queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        checked = checked_vectors(queries, "query vectors")
        if checked.shape[-1] != self.index.dim:
            raise DataError(
                f"query vectors: {checked.shape[-1]} dimensions; "
                f"the items have {self.index.dim}: both should come from one model"
            )
        return checked[:, None] if checked.ndim == 2 else checked


def _none_excluded(queries: int) -> Ragged:
    return Ragged(np.empty(0, dtype=np.int32), np.zeros(queries + 1, dtype=np.int64))


def _pairs(exclude: Ragged, size: int) -> npt.NDArray[np.int64]:
    """Excluded query-item pairs as ascending keys."""
    return np.sort(exclude.row_of_value() * size + exclude.values)


def _contained(
    values: npt.NDArray[np.int64], ascending: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    if len(ascending) == 0:
        return np.zeros(len(values), dtype=np.bool_)
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: npt.NDArray[np.bool_] = ascending[place] == values
    return found


def _check_range(positions: npt.NDArray[np.integer], size: int, what: str) -> None:
    if len(positions) > 0 and (positions.min() < 0 or positions.max() >= size):
        raise DataError(
            f"{what}: positions {positions.min()} to {positions.max()}; "
            f"they should be in 0 to {size - 1}, the corpus's positions"
        )
