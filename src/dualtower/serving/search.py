"""Exactly n items for one query: over-fetch from the index, and scan where that falls short."""

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import Ragged
from dualtower.retrieval.exact import LEAST_LENGTH, lowest_kept
from dualtower.retrieval.retriever import MOST_EXCLUDED_FETCHED, SCAN_SHARE, SPARE, Retriever
from dualtower.serving.categories import Allowed

Found = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Positions and scores, best first."""


class OneSearch:
    """`Retriever.retrieve` for one query, by the same rules; not for several threads at once."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self._index = retriever.index
        self.vectors = retriever.index.vectors
        """Of the corpus, `[items, dim]`."""
        self._marked = np.zeros(len(retriever.index), dtype=np.bool_)

    def best(
        self,
        vector: npt.NDArray[np.float32],
        n: int,
        left_out: npt.NDArray[np.integer],
        allowed: Allowed | None,
    ) -> Found:
        """The n best items that are not left out, or all of them where fewer exist.

        Args:
            vector: `[dim]`, or `[interests, dim]`, of which an item's best counts.
            n: items, from 1.
            left_out: positions that may not be returned; repeats do no harm.
            allowed: the only ones that may be returned.

        Raises:
            DataError: a vector with NaN or infinite values.
        """
        size = len(self._index)
        n = min(n, size)
        if vector.ndim == 1 and np.isfinite(vector @ vector):
            fetch = n + min(len(left_out), MOST_EXCLUDED_FETCHED)
            share = 1.0 if allowed is None else len(allowed.positions) / size
            if share * SCAN_SHARE > 1 or allowed is None:
                fetch = int(np.ceil(fetch / share)) + SPARE
                if fetch * SCAN_SHARE < size:
                    found = self._fetched(vector, n, fetch, left_out, allowed)
                    if found is not None:
                        return found
        best = self._retriever.retrieve(
            vector[None],
            n,
            exclude=Ragged.single(left_out),
            allowed=None if allowed is None else allowed.positions,
        )
        positions, scores = best.positions[0], best.scores[0]
        count = int((positions >= 0).sum())
        return positions[:count], scores[:count]

    def _fetched(
        self,
        vector: npt.NDArray[np.float32],
        n: int,
        fetch: int,
        left_out: npt.NDArray[np.integer],
        allowed: Allowed | None,
    ) -> Found | None:
        """The answer from what the index returns; None where that may not be all of it."""
        scores, positions = self._index.search_one(vector, fetch)
        if len(positions) == 0:
            return None
        unfetched = scores[-1]
        if len(left_out):
            marked = self._marked
            marked[left_out] = True
            kept = ~marked[positions]
            marked[left_out] = False
            positions, scores = positions[kept], scores[kept]
        if allowed is not None:
            kept = allowed.holds(positions)
            positions, scores = positions[kept], scores[kept]
        if len(positions) < n or scores[n - 1] <= unfetched:
            return None
        return positions[:n], scores[:n]


class CosineScan:
    """The nearest items by cosine, compared with every one.

    Vectors of other lengths than 1 need no second copy of length 1, and no index over it, which
    would be made while a request waits: their lengths are enough.
    """

    def __init__(self, vectors: npt.NDArray[np.float32]) -> None:
        """Compare with `vectors`, `[items, dim]`, of any lengths; they are kept as they are."""
        self._vectors = vectors
        lengths = np.sqrt(np.einsum("id,id->i", vectors, vectors))
        self._inverse = 1 / np.maximum(lengths, LEAST_LENGTH)

    def unit_vector(self, position: int) -> npt.NDArray[np.float32]:
        """An item's vector at length 1, `[dim]`; one of zeros stays so."""
        vector: npt.NDArray[np.float32] = self._vectors[position] * self._inverse[position]
        return vector

    def best(
        self, vector: npt.NDArray[np.float32], n: int, left_out: npt.NDArray[np.integer]
    ) -> Found:
        """The n nearest items that are not left out, or all of them where fewer exist.

        Args:
            vector: of length 1, `[dim]`.
            n: items, from 1.
            left_out: positions that may not be returned.

        Returns:
            Positions and cosines, best first; equal ones in order of position.
        """
        rough = (self._vectors @ vector) * self._inverse
        rough[left_out] = -np.inf
        places = np.flatnonzero(rough >= lowest_kept(rough[None], vector[None, None], 1.0, n))
        scores = np.einsum("id,d->i", self._vectors[places], vector) * self._inverse[places]
        order = np.lexsort((places, -scores))[:n]
        return places[order], scores[order]
