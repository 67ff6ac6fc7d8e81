"""The query tower in NumPy, for one query: a third of the time that PyTorch needs for one row."""

from typing import Any

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import EarlierSum, FeatureColumn, QueryBatch
from dualtower.models.augmented import Learned, LeaveOut
from dualtower.models.base import VectorModel
from dualtower.models.features import FeatureEncoder
from dualtower.models.history import HistoryEncoder
from dualtower.models.network import Network
from dualtower.models.table import EmbeddingTable
from dualtower.models.trained import TrainedModel
from dualtower.schema import FeatureKind

Vector = npt.NDArray[np.float32]
_TINY = np.float32(1e-12)
"""`torch.nn.functional.normalize` divides by no less."""


class QueryTower:
    """p_u of one query from the weights of a network, equal to its own within rounding.

    For networks that read the history by `pools` or not at all and end in a query tower: DAT and
    the two-tower model in every preset. `of` says whether a model is one of them.
    """

    def __init__(self, network: Network) -> None:
        """Read the weights of a network that `of` accepts; arrays are shared with it."""
        config = network.config
        self._length = config.history_length
        self._queries = _table(network.query_table)
        self._query_features = _Features(network.query_encoder)
        self._context_features = _Features(network.context_encoder)
        self._item_rows = _table(network.item_table)
        self._inputs = _array(network.cached_inputs)
        self._vectors = _array(network.cached_vectors)
        self._pools: Vector | None = None
        if isinstance(network.history, HistoryEncoder):
            # Oldest first, as a history is: the last column weighs the last event.
            self._pools = np.ascontiguousarray(_array(network.history.weights)[:, ::-1])
        self._augmented_rows: Vector | None = None
        self._decay: Vector | None = None
        augmented = network.augmented if config.augmented_query else None
        self._project: Vector | None = None
        if isinstance(augmented, Learned):
            self._augmented_rows = _array(augmented.queries.weight)
        elif isinstance(augmented, LeaveOut):
            share = 1 / (1 + np.exp(-_array(augmented.decay_logit), dtype=np.float32))
            self._decay = (share ** np.arange(self._length, dtype=np.float32)).astype(np.float32)
            self._decay_sums = np.cumsum(self._decay)
            if augmented.project.matrix is not None:
                self._project = _array(augmented.project.matrix)
        tower = network.query_tower
        assert tower is not None
        parameters = [_array(parameter) for parameter in tower.layers.parameters()]
        self._layers = list(zip(parameters[0::2], parameters[1::2], strict=True))
        self._path = None if tower.path is None else _array(tower.path.weight)
        self._last_relu, self._normalise = tower.last_relu, tower.normalise

    @classmethod
    def of(cls, model: VectorModel) -> "QueryTower | None":
        """The tower of a model whose query vectors it gives; None for other models."""
        network = model.network if isinstance(model, TrainedModel) else None
        if network is None or network.query_tower is None or network.capsules is not None:
            return None
        if network.history is not None and not isinstance(network.history, HistoryEncoder):
            return None
        return cls(network)

    def encode(self, batch: QueryBatch) -> Vector:
        """p_u of a batch of one query, `[output_dim]`."""
        return self.vector(
            int(batch.rows[0]),
            batch.history.values,
            self.query_features(batch.features),
            self.context(batch.context),
            batch.earlier,
        )

    def query_features(self, columns: dict[str, FeatureColumn]) -> Vector | None:
        """What the query's features add to the tower's input; None without features.

        Args:
            columns: by name, one row each.
        """
        return self._query_features(columns, self._item_rows)

    def context(self, columns: dict[str, FeatureColumn]) -> Vector | None:
        """What the request's context adds to the tower's input; None without context features.

        Args:
            columns: by name, one row each.
        """
        return self._context_features(columns, self._item_rows)

    def vector(
        self,
        row: int,
        history: npt.NDArray[np.integer],
        features: Vector | None,
        context: Vector | None,
        earlier: EarlierSum | None = None,
    ) -> Vector:
        """p_u of one query, `[output_dim]`.

        Args:
            row: the query's row; 0 is the unknown.
            history: item rows of all its events, oldest first.
            features: as `query_features` gives them.
            context: as `context` gives it.
            earlier: what the query did before `history`, added up.
        """
        parts = []
        if self._queries is not None:
            parts.append(self._queries[row])
        if features is not None:
            parts.append(features)
        if context is not None:
            parts.append(context)
        latest = history[-self._length :]
        if self._pools is not None:
            parts.append(self._pooled(latest))
        if self._augmented_rows is not None:
            parts.append(self._augmented_rows[row])
        if self._decay is not None:
            parts += self._augmented(history, latest, earlier)
        inputs = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return self._tower(inputs)

    def _pooled(self, latest: npt.NDArray[np.integer]) -> Vector:
        """The last item's embedding, then each pool's weighted sum."""
        assert self._pools is not None
        pools, dim = len(self._pools), self._inputs.shape[1]
        result = np.zeros((1 + pools, dim), dtype=np.float32)
        if len(latest):
            events = self._inputs[latest]
            result[0] = events[-1]
            np.matmul(self._pools[:, -len(latest) :], events, out=result[1:])
        return result.reshape(-1)

    def _augmented(
        self,
        history: npt.NDArray[np.integer],
        latest: npt.NDArray[np.integer],
        earlier: EarlierSum | None,
    ) -> list[Vector]:
        """Mean of p_v over all events and decayed mean over the latest (`LeaveOut.query`)."""
        assert self._decay is not None
        if not len(history):
            mean = decayed = np.zeros(self._vectors.shape[1], dtype=np.float32)
        else:
            past = self._vectors[history]
            total, count = past.sum(axis=0), len(history)
            if earlier is not None:
                total, count = total + earlier.vectors[0], count + int(earlier.counts[0])
            mean = total / np.float32(count)
            weights = self._decay[len(latest) - 1 :: -1]
            decayed = weights @ past[-len(latest) :] / self._decay_sums[len(latest) - 1]
        if self._project is None:
            return [mean, decayed]
        return [mean @ self._project, decayed @ self._project]

    def _tower(self, inputs: Vector) -> Vector:
        hidden, last = inputs, len(self._layers) - 1
        for number, (weight, bias) in enumerate(self._layers):
            hidden = weight @ hidden
            hidden += bias
            if number < last or self._last_relu:
                np.maximum(hidden, 0, out=hidden)
        if self._path is not None:
            hidden += self._path @ inputs
        if self._normalise:
            hidden /= max(np.sqrt(hidden @ hidden), _TINY)
        return hidden


class _Features:
    """What `FeatureEncoder` gives for one row."""

    def __init__(self, encoder: FeatureEncoder) -> None:
        self._specs = encoder.specs
        self._sum = encoder.combine == "sum"
        self._dim = encoder.dim
        self._tables = {int(place): _array(table.weight) for place, table in encoder.tables.items()}
        self._linears = {
            int(place): _array(linear.weight) for place, linear in encoder.linears.items()
        }

    def __call__(
        self, columns: dict[str, FeatureColumn], item_rows: Vector | None
    ) -> Vector | None:
        if not self._specs:
            return None
        parts = []
        for place, spec in enumerate(self._specs):
            values = columns[spec.name].values
            if spec.kind == FeatureKind.CATEGORICAL:
                parts.append(self._tables[place][values[0]])
            elif spec.kind in (FeatureKind.NUMERIC, FeatureKind.VECTOR):
                parts.append(self._linears[place] @ values.reshape(-1).astype(np.float32))
            elif len(values) == 0:
                parts.append(np.zeros(self._dim, dtype=np.float32))
            else:
                table = item_rows if spec.kind == FeatureKind.SEQUENCE else self._tables[place]
                assert table is not None
                parts.append(table[values].sum(axis=0) / np.float32(len(values)))
        joined: Vector = np.sum(parts, axis=0) if self._sum else np.concatenate(parts)
        return joined


def _array(tensor: Any) -> Vector:
    array: Vector = np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
    return array


def _table(table: EmbeddingTable | None) -> Vector | None:
    return None if table is None else _array(table.weight)
