"""EASE: a linear autoencoder of items with a closed-form solution, for small corpora."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.linalg import lapack

from dualtower.config import Settings
from dualtower.data.columns import FeatureSpace, QueryBatch
from dualtower.data.dataset import Log
from dualtower.errors import ConfigError, DataError, NotFittedError
from dualtower.models.base import SolvedModel
from dualtower.models.interactions import history_matrix, interaction_matrix


class EASEConfig(Settings):
    """Settings of EASE."""

    regularization: float = Field(default=100.0, gt=0)
    """λ of the ridge regression; larger data sets want more (MovieLens-1M: 300)."""
    max_items: int = Field(default=20_000, ge=1)
    """Larger corpora are refused: memory grows with items², time with items³."""


class EASE(SolvedModel):
    """Scores by history times B, the ridge regression of every item on all others.

    B = I − P · diag(1 / diag(P)) with P = (XᵀX + λI)⁻¹ (Steck 2019, "Embarrassingly Shallow
    Autoencoders for Sparse Data", Eq. 8).
    """

    name = "ease"
    settings = EASEConfig
    config: EASEConfig
    _items: npt.NDArray[np.int32] | None = None
    _weights: npt.NDArray[np.float32] | None = None

    @property
    def fitted(self) -> bool:
        """Whether the model was solved or loaded."""
        return self._weights is not None

    def solve(self, log: Log, *, progress: bool = True) -> None:
        """Invert the items' Gram matrix; items without events get weights of zero.

        Raises:
            ConfigError: more items have events than `max_items`.
            DataError: the Gram matrix cannot be inverted in single precision.
        """
        interactions = interaction_matrix(log)
        items = np.unique(interactions.indices).astype(np.int32)
        count = len(items)
        if count > self.config.max_items:
            raise ConfigError(
                f"ease: {count:,} items have training events, max_items is "
                f"{self.config.max_items:,}. EASE needs {2 * 4 * count**2 / 1e9:,.1f} GB of memory "
                "for them: raise max_items if the machine has it, or leave EASE out"
            )
        used = interactions[:, items]
        gram = np.asfortranarray((used.T @ used).toarray(), dtype=np.float32)
        gram[np.diag_indices(count)] += self.config.regularization
        factor, failed = lapack.spotrf(gram, lower=0, overwrite_a=1)
        if failed:
            raise DataError(
                "ease: the items' Gram matrix is not positive definite in single precision; "
                f"raise regularization (now {self.config.regularization:g})"
            )
        inverse, _ = lapack.spotri(factor, lower=0, overwrite_c=1)
        # Only the upper triangle was written: mirror it a row at a time, in place.
        for row in range(count):
            inverse[row + 1 :, row] = inverse[row, row + 1 :]
        weights = np.ascontiguousarray(inverse.T)  # symmetric: the same values, row by row
        weights /= -weights.diagonal().copy()
        weights[np.diag_indices(count)] = 0
        self.space = log.dataset.space()
        self._items, self._weights = items, weights

    def score(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """Predictions, `[queries, items]`; 0 for items without training events.

        Raises:
            NotFittedError: the model was not trained.
        """
        if self._items is None or self._weights is None or self.space is None:
            raise NotFittedError("ease was not trained: call dualtower.fit first")
        history = history_matrix(batch, self.space.item_count)[:, self._items]
        scores = np.zeros((len(batch), self.space.item_count), dtype=np.float32)
        scores[:, self._items] = history @ self._weights
        return scores

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`items` `[n]`, the item rows with training events, and `weights` B of them `[n, n]`."""
        if self._items is None or self._weights is None:
            raise NotFittedError("ease was not trained: call dualtower.fit first")
        return {"items": self._items, "weights": self._weights}

    @classmethod
    def from_state(
        cls, config: dict[str, Any], space: FeatureSpace, state: dict[str, npt.NDArray[Any]]
    ) -> Self:
        """The fitted model from what `state` gave."""
        model = cls(**config)
        model.space = space
        model._items, model._weights = state["items"], state["weights"]
        return model
