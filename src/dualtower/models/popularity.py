"""The lowest floor: every query gets the items with most training events."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from dualtower.config import Settings
from dualtower.data.columns import FeatureSpace, QueryBatch
from dualtower.data.dataset import Log
from dualtower.errors import NotFittedError
from dualtower.models.base import SolvedModel


class PopularityConfig(Settings):
    """Popularity has no settings."""


class Popularity(SolvedModel):
    """Scores an item by the number of its training events, the same for every query."""

    name = "popularity"
    settings = PopularityConfig
    _counts: npt.NDArray[np.float32] | None = None

    @property
    def fitted(self) -> bool:
        """Whether the model was solved or loaded."""
        return self._counts is not None

    def solve(self, log: Log, *, progress: bool = True) -> None:
        """Count the target events of every item."""
        self.space = log.dataset.space()
        self._counts = log.item_counts().astype(np.float32)

    def score(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """Training events of every item, `[queries, items]`; a read-only view.

        Raises:
            NotFittedError: the model was not trained.
        """
        counts = self._fitted_counts()
        return np.broadcast_to(counts, (len(batch), len(counts)))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """`counts`, `[items]`."""
        return {"counts": self._fitted_counts()}

    @classmethod
    def from_state(
        cls, config: dict[str, Any], space: FeatureSpace, state: dict[str, npt.NDArray[Any]]
    ) -> Self:
        """The fitted model from what `state` gave."""
        model = cls(**config)
        model.space = space
        model._counts = state["counts"]
        return model

    def _fitted_counts(self) -> npt.NDArray[np.float32]:
        if self._counts is None:
            raise NotFittedError("popularity was not trained: call dualtower.fit first")
        return self._counts
