"""The two-tower model: a query tower and an item tower, scored by the inner product."""

from typing import ClassVar

from dualtower.errors import ConfigError
from dualtower.models.trained import TrainedModel


class TwoTower(TrainedModel):
    """Query tower and item tower, each Eq. 1 without augmented vectors.

    The query tower may read features, context, history and the query's id; the item tower its id
    and features. See `ModelConfig` for every setting.
    """

    name: ClassVar[str] = "two_tower"

    def _check(self) -> None:
        if self.config.augmented != "none" or self.config.lambda_ca:
            raise ConfigError(
                "model: two_tower has no augmented vectors and no category alignment; "
                'use name = "dat", or augmented = "none" and lambda_ca = 0'
            )
