"""What every model offers, so that evaluation, retrieval and serving treat all alike."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from dualtower.config import validate
from dualtower.data.columns import FeatureSpace, QueryBatch
from dualtower.data.dataset import Log


class Model(ABC):
    """A retrieval model: a name, a validated configuration, and scores for every item.

    Models with vectors (`VectorModel`) score by inner product and are served by an index; floors
    without vectors implement `score` themselves.
    """

    name: ClassVar[str]
    """The model's name in configurations and results: its file's name."""
    config: BaseModel
    """Every setting of the model; `from_state` takes its `model_dump()`."""
    space: FeatureSpace | None = None
    """The sizes it was fitted for; None before the fit."""

    @property
    @abstractmethod
    def fitted(self) -> bool:
        """Whether the model was trained or loaded."""

    @abstractmethod
    def score(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """Scores of all item rows, `[queries, items]`; higher is better.

        Raises:
            NotFittedError: the model was not trained.
        """

    @abstractmethod
    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that was learned, as named arrays that safetensors can hold."""

    @classmethod
    @abstractmethod
    def from_state(
        cls, config: dict[str, Any], space: FeatureSpace, state: dict[str, npt.NDArray[Any]]
    ) -> Self:
        """The fitted model from what `config.model_dump()`, `space` and `state` held."""


class SolvedModel(Model):
    """A model with a closed-form or library solve instead of iterations."""

    settings: ClassVar[type[BaseModel]]
    """What its `config` is."""

    def __init__(self, **settings: Any) -> None:
        """Make an unfitted model.

        Args:
            **settings: fields of the model's settings; those left out have their defaults.

        Raises:
            ConfigError: a setting is unknown or out of range.
        """
        self.config = validate(self.settings, settings, self.name)

    @abstractmethod
    def solve(self, log: Log, *, progress: bool = True) -> None:
        """Fit on the target events of `log`; with a bar, where there is one, if `progress`."""


class VectorModel(Model):
    """A model whose score is the inner product of a query vector and an item vector."""

    has_bias: ClassVar[bool] = False
    """Whether the last number of an item vector is a bias, and that of a query vector 1. Items are
    alike or not whatever their biases."""

    @property
    def reads_latest(self) -> int | None:
        """How many of a query's latest events are enough, beside the sum of p_v of the others.

        None where all are needed. A `QueryBatch` may then hold so many events or more, and the
        rest in `earlier`; its vector is that of the whole history.
        """
        return None

    def encode_new_item(
        self, row: int, query_sum: npt.NDArray[np.floating], count: int
    ) -> npt.NDArray[np.float32] | None:
        """The vector of an item that training never saw, from its first events.

        Args:
            row: its row in the item vocabulary; 0 where it has none.
            query_sum: sum of p_u over its events, each from before the event, `[dim]`.
            count: their number, at least 1.

        Returns:
            p_v `[dim]`; None where the model has nothing that tells new items apart.
        """
        return None

    @abstractmethod
    def encode_queries(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """Query vectors, `[queries, dim]`, or `[queries, interests, dim]` (the best counts)."""

    @abstractmethod
    def encode_items(self) -> npt.NDArray[np.float32]:
        """Vectors of all item rows, the unknown's at row 0, `[items, dim]`."""

    def score(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        """Inner products of every query and item vector; the maximum over interests if several."""
        queries, items = self.encode_queries(batch), self.encode_items()
        if queries.ndim == 2:
            return queries @ items.T
        scores: npt.NDArray[np.float32] = queries[:, 0] @ items.T
        for interest in range(1, queries.shape[1]):
            np.maximum(scores, queries[:, interest] @ items.T, out=scores)
        return scores
