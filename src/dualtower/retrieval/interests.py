"""What an index finds for queries of several vectors: each is searched for, each item once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualtower.retrieval.exact import pair_scores
from dualtower.retrieval.index import Index


@dataclass(frozen=True)
class FoundPairs:
    """Queries and the items found for them, no pair twice."""

    query: npt.NDArray[np.int64]
    """Which query, `[pairs]`."""
    position: npt.NDArray[np.int64]
    """The item's position in the corpus, `[pairs]`."""
    score: npt.NDArray[np.float32]
    """Its inner product with the query's best interest, `[pairs]`."""
    unfetched: npt.NDArray[np.float32]
    """No item that an exact index left out scores more than this, `[queries]`."""


def search_pairs(index: Index, queries: npt.NDArray[np.float32], fetch: int) -> FoundPairs:
    """Search for every interest of every query, and merge what was found.

    An item that several interests find is scored by the best of all of them. Interests that only
    repeat the query's first, as absent ones do, are not searched for.

    Args:
        index: what is searched.
        queries: `[queries, interests, dim]`, at least one.
        fetch: items for each interest, at least 1.
    """
    own = (queries != queries[:, :1]).any(axis=2)
    own[:, 0] = True
    query_of_vector = np.nonzero(own)[0]
    scores, positions = index.search(queries[own], fetch)
    first = np.flatnonzero(np.diff(query_of_vector, prepend=-1))
    # What the index did not return scores no more than the last item of some interest.
    unfetched = np.maximum.reduceat(scores[:, -1], first)
    vector, column = np.nonzero(positions >= 0)
    query, position = query_of_vector[vector], positions[vector, column]
    if len(query_of_vector) == len(queries):
        return FoundPairs(query, position, scores[vector, column], unfetched)
    query, position = np.divmod(np.unique(query * len(index) + position), len(index))
    score = pair_scores(queries, index.vectors, query, position)
    return FoundPairs(query, position, score, unfetched)
