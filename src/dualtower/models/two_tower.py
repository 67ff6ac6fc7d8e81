"""The two-tower model: a query tower and an item tower, scored by the inner product."""

from typing import ClassVar

from dualtower.models.trained import TrainedModel


class TwoTower(TrainedModel):
    """Query tower and item tower, each Eq. 1 without augmented vectors.

    The query tower may read features, context, history and the query's id; the item tower its id
    and features. See `ModelConfig` for every setting.
    """

    name: ClassVar[str] = "two_tower"
