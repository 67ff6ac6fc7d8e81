"""What items share in the logs, as starting values of the item table."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from dualtower.data.arrays import query_chunks
from dualtower.data.dataset import Log
from dualtower.models.interactions import interaction_matrix
from dualtower.progress import progress_bar

_SHRINKAGE = 1.0
"""Added to an item's weight below the root, so that items of a single query do not lead."""
_SPARE = 8
"""So many more directions than asked for are followed, since the last ones converge slowly."""
_ROUNDS = 16
"""How often the directions are multiplied by the co-occurrence: as many passes over the log."""
_SHIFT = 0.5
"""Added to all eigenvalues meanwhile. Negative ones are above -1, so that none outweighs a positive
one then, as half of them would where logs are short."""


def co_occurrence_vectors(
    log: Log, dim: int, seed: int, *, progress: bool = True
) -> npt.NDArray[np.float32]:
    """Vectors whose inner products are nearest to how often the items share a query.

    The co-occurrence of items i and j is the sum of 1 / |u| over the queries u that have both among
    their |u| distinct targets, divided by √((s_i + 1)(s_j + 1)), s being that sum for an item by
    itself; an item's with itself is 0. Its leading eigenvectors, times the roots of their
    eigenvalues, are found by block power iteration, a piece of the log at a time, scaled to a mean
    square of 1 / `dim` over the items with a target, and turned at random, so that no coordinate is
    special.

    Weights of events are not looked at. Memory: about six times `[items, dim + 8]` floats, one such
    row for each query of a piece of the log, and that piece. Time: 18 passes over the log, each of
    which does about 4 · `dim` multiplications an event and, where the log is of several pieces,
    sorts them anew; and as many QR decompositions of `[items, dim + 8]`.

    Args:
        log: whose target events count, each pair of query and item once.
        dim: length of a vector.
        seed: of the first directions and of the turn.
        progress: show a bar.

    Returns:
        `[items, dim]`; zeros for an item without a target event.
    """
    count = log.dataset.item_count
    rng = np.random.default_rng(seed)
    queries = log.queries()
    lengths = (log.end - log.start)[queries]
    pieces = list(query_chunks(np.concatenate([[0], np.cumsum(lengths)])))

    @lru_cache(maxsize=1)  # a log of one piece is read and sorted once
    def matrix(first: int, last: int) -> sparse.csr_array:
        return _unit_rows(interaction_matrix(log, queries[first:last]))

    with progress_bar("Co-occurrence", _ROUNDS + 2, "passes", shown=progress) as bar:
        weights = np.zeros(count)
        for piece in pieces:
            weights += matrix(*piece).astype(float).power(2).sum(axis=0)
        bar.advance(1)
        scale = (1 / np.sqrt(weights + _SHRINKAGE)).astype(np.float32)
        own = weights.astype(np.float32)

        def times(block: Tensor) -> Tensor:
            scaled = scale[:, None] * block.numpy()
            result = -own[:, None] * scaled
            for piece in pieces:
                result += matrix(*piece).T @ (matrix(*piece) @ scaled)
            bar.advance(1)
            return torch.from_numpy(scale[:, None] * result)

        # The dense products are torch's, which keeps to the threads that it was given.
        size = min(dim + _SPARE, count)
        found = torch.from_numpy(rng.standard_normal((count, size), dtype=np.float32))
        for _ in range(_ROUNDS):
            found = torch.linalg.qr(found)[0]
            found = times(found) + _SHIFT * found
        found = torch.linalg.qr(found)[0]
        values, turns = torch.linalg.eigh((found.T @ times(found)).double())
    values, turns = values.flip(0)[:dim], turns.flip(1)[:, :dim]  # `eigh` has the largest last
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0][: len(values)]
    turns = turns * values.clamp(min=0).sqrt() @ torch.from_numpy(turn)
    vectors: npt.NDArray[np.float32] = (found @ turns.float()).numpy()
    vectors[weights == 0] = 0
    mean_square = float(np.square(vectors[weights > 0]).mean()) if weights.any() else 0.0
    return vectors / np.float32(np.sqrt(mean_square * dim) or 1)


def _unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """A matrix of ones with each row scaled to unit length."""
    lengths = np.diff(matrix.indptr)
    matrix.data = (1 / np.sqrt(np.repeat(lengths, lengths))).astype(np.float32)
    return matrix
