"""MIND: several interests of a query by dynamic routing, the best of which counts."""

from typing import ClassVar

from dualtower.data.columns import FeatureColumn, FeatureSpace
from dualtower.errors import ConfigError
from dualtower.models.network import Network
from dualtower.models.trained import TrainedModel


class MIND(TrainedModel):
    """Li et al., "Multi-Interest Network with Dynamic Routing for Recommendation at Tmall", 2019.

    The query's latest events are routed to up to `interests` capsules; each of them, with the
    query's features and the context beside it, goes through the query tower and becomes a vector
    of its own. Training scores what label-aware attention makes of them for the target, serving
    takes the maximum over all. docs/model.md names every deviation.
    """

    name: ClassVar[str] = "mind"

    def _make_network(
        self, space: FeatureSpace, item_features: dict[str, FeatureColumn]
    ) -> Network:
        return Network(self.config, space, item_features, None, capsules=True)

    def _check(self) -> None:
        if not self.config.query_tower:
            raise ConfigError(
                "model: mind turns each interest into a vector by the query tower; "
                "set query_tower = true"
            )
