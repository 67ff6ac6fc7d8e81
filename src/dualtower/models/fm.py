"""FM: a factorization machine whose score separates into a query's and an item's vector."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from dualtower.config import ModelConfig
from dualtower.data.columns import FeatureColumn, FeatureSpace
from dualtower.errors import ConfigError
from dualtower.models.factors import FactorEncoder, one_hot
from dualtower.models.network import Encoded, Network
from dualtower.models.query_windows import QueryWindows
from dualtower.models.table import EmbeddingTable
from dualtower.models.trained import TrainedModel


class FM(TrainedModel):
    """Rendle, "Factorization Machines", ICDM 2010, of second order.

    y = w0 + Σ x_a w_a + Σ_(a<b) x_a x_b ⟨v_a, v_b⟩ over all features a of query and item. What
    only the query's features have part in is the same for all items and left out; what only the
    item's have part in is the item's bias. With p_u = [Σ x v over the query's features, 1] and
    p_v = [Σ x v over the item's, bias] the score is ⟨p_u, p_v⟩, and the index that holds p_v,
    `output_dim` factors and the bias, serves it exactly. docs/model.md names every deviation.
    """

    name: ClassVar[str] = "fm"
    has_bias: ClassVar[bool] = True

    def _make_network(
        self, space: FeatureSpace, item_features: dict[str, FeatureColumn]
    ) -> Network:
        return FactorizationNetwork(self.config, space, item_features)

    def _check(self) -> None:
        config = self.config
        if config.query_tower or config.item_vectors != "embedding" or config.normalise:
            raise ConfigError(
                "model: fm has no towers and its scores are no cosines; set query_tower = false, "
                'item_vectors = "embedding" and normalise = false, or name = "two_tower"'
            )
        if config.history and config.history_form != "mean":
            raise ConfigError(
                "model: fm reads the history as a bag of items; set "
                'history_form = "mean" or history = false, or name = "two_tower"'
            )


class FactorizationNetwork(Network):
    """A network without towers, whose item vectors carry their bias as the last number."""

    def __init__(
        self, config: ModelConfig, space: FeatureSpace, item_features: dict[str, FeatureColumn]
    ) -> None:
        super().__init__(config, space, item_features, None)
        self.item_weights = EmbeddingTable(space.item_count, 1, std=0)
        self.item_encoder: FactorEncoder = FactorEncoder(
            space.item_features, config.output_dim, config.id_dropout
        )
        self.offset = nn.Parameter(torch.zeros(()))
        length = config.output_dim + 1
        self.register_buffer("cached_inputs", torch.zeros(space.item_count, length))
        self.register_buffer("cached_vectors", torch.zeros(space.item_count, length))

    def item_inputs(self, items: Tensor) -> Tensor:
        """Σ x v over the features of item rows, each named once, and the bias, `[n, factors + 1]`.

        The bias is w0 + Σ x w + Σ_(a<b) x x' ⟨v, v'⟩ over the item's own features.
        """
        rows = items.cpu().numpy()
        columns = {name: column.take(rows) for name, column in self.item_features.items()}
        table, weights = self.item_table, self.item_weights
        of_items = None if table is None else (table, weights)
        terms = self.item_encoder.terms(columns, of_items, self.device)
        if table is not None:
            own = one_hot(table, weights, self._hide(items), unique=not self._hides)
            terms = own if terms is None else own + terms
        assert terms is not None
        bias = self.offset + terms.weights + terms.interactions()
        return torch.cat([terms.factors, bias[:, None]], dim=1)

    def encode_query(self, windows: QueryWindows, inputs: Tensor, vectors: Tensor) -> Encoded:
        """Σ x v over each target's query features, and 1 for the bias, `[targets, factors + 1]`.

        Each of the n latest items of the history has x = 1 / n, and the factors that it has as an
        item: its own and its features'.
        """
        factors = super().encode_query(windows, inputs[:, :-1], vectors).vectors
        return Encoded(torch.cat([factors, factors.new_ones(len(factors), 1)], dim=1), None)
