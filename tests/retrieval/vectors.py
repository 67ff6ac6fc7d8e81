"""A model with vectors whose every answer can be worked out by hand."""

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from dualtower.data.columns import FeatureSpace, QueryBatch
from dualtower.models.base import VectorModel


class SumConfig(BaseModel):
    interests: int = 1


class SumOfHistory(VectorModel):
    """A query's vector is the sum of its items' vectors, plus what numeric features add to the
    first coordinate; with two interests, the second one is its last item's vector."""

    name: ClassVar[str] = "sum_of_history"

    def __init__(self, config: SumConfig | None = None) -> None:
        self.config = config or SumConfig()
        self.vectors = np.empty((0, 0), dtype=np.float32)

    @classmethod
    def of(
        cls, space: FeatureSpace, vectors: npt.NDArray[np.floating], interests: int = 1
    ) -> "SumOfHistory":
        model = cls(SumConfig(interests=interests))
        model.space, model.vectors = space, np.asarray(vectors, dtype=np.float32)
        return model

    @property
    def fitted(self) -> bool:
        return self.space is not None

    def encode_items(self) -> npt.NDArray[np.float32]:
        return self.vectors

    def encode_queries(self, batch: QueryBatch) -> npt.NDArray[np.float32]:
        total = np.zeros((len(batch), self.vectors.shape[1]), dtype=np.float32)
        np.add.at(total, batch.history.row_of_value(), self.vectors[batch.history.values])
        for column in (*batch.features.values(), *batch.context.values()):
            total[:, 0] += column.values
        if self.config.interests == 1:
            return total
        last = np.zeros_like(total)
        some = batch.history.lengths() > 0
        last[some] = self.vectors[batch.history.values[batch.history.offsets[1:][some] - 1]]
        return np.stack([total, last], axis=1)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        return {"vectors": self.vectors}

    @classmethod
    def from_state(
        cls, config: dict[str, Any], space: FeatureSpace, state: dict[str, npt.NDArray[Any]]
    ) -> Self:
        model = cls(SumConfig(**config))
        model.space, model.vectors = space, state["vectors"]
        return model
