"""WALS: weighted matrix factorization by alternating least squares, with queries folded in."""

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from scipy import sparse

from dualtower.config import Settings
from dualtower.data.columns import FeatureSpace, QueryBatch, Ragged
from dualtower.data.dataset import Log
from dualtower.errors import ConfigError, NotFittedError
from dualtower.models.base import SolvedModel, VectorModel
from dualtower.models.interactions import history_matrix, interaction_matrix
from dualtower.progress import progress_bar

_BLOCK_FACTORS = 1 << 22
"""How many item factors are gathered at a time when queries are folded in (32 MiB)."""


class WALSConfig(Settings):
    """Settings of WALS; `dualtower.studies.floors` tries a grid of them."""

    factors: int = Field(default=32, ge=1, le=4096)
    """Length of the vectors."""
    regularization: float = Field(default=10.0, gt=0)
    """λ, the weight of the factors' squares."""
    alpha: float = Field(default=10.0, gt=0)
    """Confidence of an observed pair; that of every other pair is 1."""
    iterations: int = Field(default=15, ge=1)
    """Rounds of solving for the queries and then for the items."""
    seed: int = Field(default=0, ge=0)
    """Of the initial factors."""


class WALS(SolvedModel, VectorModel):
    """Factors x_u and y_v whose inner products fit ones for observed pairs and zeros for others.

    Minimises Σ c_uv (r_uv − ⟨x_u, y_v⟩)² + λ (Σ ‖x_u‖² + Σ ‖y_v‖²) over *all* pairs, with r = 1
    and c = alpha where query u met item v, and r = 0 and c = 1 elsewhere (Hu, Koren and Volinsky
    2008, whose confidence 1 + α r is alpha here). The library `implicit` solves it by conjugate
    gradients; it is needed for the fit alone.

    Only the items' factors are kept. A query's vector is the exact minimiser given the items of
    its history as it stands at request time, so new events and new queries count at once; without
    history it is zero.
    """

    name = "wals"
    settings = WALSConfig
    config: WALSConfig
    _items: npt.NDArray[np.float32] | None = None
    _gram: npt.NDArray[np.float64] | None = None

    @property
    def fitted(self) -> bool:
        """Whether the model was solved or loaded."""
        return self._items is not None

    def solve(self, log: Log, *, progress: bool = True) -> None:
        """Factorize; items without events get zero vectors. Repeats of a pair count once.

        On one machine a seed gives the same factors, whatever the number of threads (PyTorch's).

        Raises:
            ConfigError: the library `implicit` is not installed.
        """
        interactions = interaction_matrix(log)
        items = np.unique(interactions.indices)
        factors = np.zeros((log.dataset.item_count, self.config.factors), dtype=np.float32)
        factors[items] = _alternate(interactions[:, items], self.config, progress)
        self.space = log.dataset.space()
        self._keep(factors)

    def encode_queries(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """x_u of each query's history, `[queries, factors]`; zero without history.

        Solves (YᵀY + λI + (alpha − 1) Σ y yᵀ) x = alpha Σ y, the sums over the history's distinct
        items, as `implicit`'s `recalculate_user` does.

        Raises:
            NotFittedError: the model was not trained.
        """
        items = self.encode_items()
        assert self._gram is not None
        alpha, factors = self.config.alpha, self.config.factors
        history = history_matrix(batch, len(items))
        lists = Ragged(history.indices.astype(np.int32), history.indptr.astype(np.int64))
        lengths = lists.lengths()
        vectors = np.zeros((len(batch), factors), dtype=np.float32)
        for block in _blocks_of_like_length(lengths, max(1, _BLOCK_FACTORS // factors)):
            part = lists.take(block)
            width = int(lengths[block[-1]])
            met = np.zeros((len(block), width, factors))
            met[np.arange(width) < lengths[block, None]] = items[part.values]
            weighted = self._gram + (alpha - 1) * (met.transpose(0, 2, 1) @ met)
            wanted = alpha * met.sum(axis=1)
            vectors[block] = np.linalg.solve(weighted, wanted[..., None])[..., 0]
        return vectors

    def encode_items(self) -> npt.NDArray[np.float32]:
        """y_v of every item row, `[items, factors]`; zero for items without training events.

        Raises:
            NotFittedError: the model was not trained.
        """
        if self._items is None:
            raise NotFittedError("wals was not trained: call dualtower.fit first")
        return self._items

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`items`: y_v of every item row, `[items, factors]`.

        Raises:
            NotFittedError: the model was not trained.
        """
        return {"items": self.encode_items()}

    @classmethod
    def from_state(
        cls, config: dict[str, Any], space: FeatureSpace, state: dict[str, npt.NDArray[Any]]
    ) -> Self:
        """The fitted model from what `state` gave; `implicit` need not be installed."""
        model = cls(**config)
        model.space = space
        model._keep(state["items"])
        return model

    def _keep(self, items: npt.NDArray[np.float32]) -> None:
        wide = items.astype(np.float64)
        self._items = items
        self._gram = wide.T @ wide + self.config.regularization * np.eye(items.shape[1])


def _alternate(
    interactions: sparse.csr_array, config: WALSConfig, progress: bool
) -> npt.NDArray[np.float32]:
    """The items' factors by the library, `[items, factors]`."""
    try:
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ConfigError(
            f"wals: the library implicit cannot be loaded ({error}); "
            "pip install 'dualtower[wals]', or leave wals out"
        ) from None
    title = "Alternating least squares"
    # The library runs its own threads, each of which would start the linear algebra's.
    with (
        threadpool_limits(1, user_api="blas"),
        progress_bar(title, config.iterations, "iterations", shown=progress) as bar,
    ):
        solver = AlternatingLeastSquares(
            factors=config.factors,
            regularization=config.regularization,
            alpha=config.alpha,
            iterations=config.iterations,
            num_threads=torch.get_num_threads(),
            random_state=config.seed,
        )
        matrix = sparse.csr_matrix(interactions)
        solver.fit(matrix, show_progress=False, callback=lambda *_: bar.advance())
    factors: npt.NDArray[np.float32] = solver.item_factors
    return factors


def _blocks_of_like_length(
    lengths: npt.NDArray[np.int64], size: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Rows with a length above 0, shortest first, in blocks that fill about `size` when padded."""
    order = np.argsort(lengths, kind="stable")
    order = order[np.searchsorted(lengths[order], 1) :]
    while len(order):
        fits = np.arange(1, len(order) + 1) * lengths[order] <= size
        count = max(1, int(fits.sum()))
        yield order[:count]
        order = order[count:]
