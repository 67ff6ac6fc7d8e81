"""The two towers and what feeds them, as one PyTorch module."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dualtower.config import ModelConfig
from dualtower.data.columns import (
    FeatureColumn,
    FeatureSpace,
    FeatureSpec,
    QueryBatch,
)
from dualtower.errors import ConfigError
from dualtower.models.attention import AttentionEncoder
from dualtower.models.augmented import Augmented, Past
from dualtower.models.capsules import InterestCapsules, encode_interests
from dualtower.models.features import FeatureEncoder, hide_rows
from dualtower.models.history import HistoryEncoder, MeanEncoder
from dualtower.models.query_windows import QueryWindows, latest_windows
from dualtower.models.table import EmbeddingTable
from dualtower.models.towers import Tower


@dataclass(frozen=True)
class Encoded:
    """What a tower gave, and the augmented vector that it was fed."""

    vectors: Tensor
    """p_u or p_v, `[n, output_dim]`; of several interests `[n, interests, output_dim]`."""
    augmented: Tensor | None
    """a_u or a_v as fed, `[n, …]`; None without."""
    interests: Tensor | None = None
    """How many of its interests each query has, `[n]`; the rest repeat the first. None where a
    query has one vector by nature."""


class Network(nn.Module):
    """Item tower over the item's embedding and a_v; query tower over features, history and a_u.

    The item embedding (its id's row and its features', summed or concatenated) serves both the item
    tower and the history in the query tower. `cached_inputs` and `cached_vectors` hold the item
    embedding and p_v of every item row: `settle` fills them, and with them a query is encoded
    without running the item tower.
    """

    cached_inputs: Tensor
    cached_vectors: Tensor

    def __init__(
        self,
        config: ModelConfig,
        space: FeatureSpace,
        item_features: dict[str, FeatureColumn],
        augmented: Augmented | None,
        *,
        capsules: bool = False,
    ) -> None:
        """Make the towers for these sizes.

        Args:
            config: the model's settings.
            space: sizes of the dataset.
            item_features: by name, one row per item row.
            augmented: the augmented part; None without.
            capsules: whether the history becomes several interests, each a vector of its own.

        Raises:
            ConfigError: a tower without input, or settings that do not fit together.
        """
        super().__init__()
        self.config = config
        self.item_features = item_features
        dim = config.embedding_dim
        self.item_table = EmbeddingTable(space.item_count, dim) if config.item_id else None
        self.item_encoder = self._encoder(space.item_features)
        self.query_table = EmbeddingTable(space.query_count, dim) if config.query_id else None
        self.query_encoder = self._encoder(space.query_features)
        self.context_encoder = self._encoder(space.context_features)
        sequences = [
            spec.name
            for side in (space.query_features, space.item_features, space.context_features)
            for spec in side
            if spec.kind == "sequence"
        ]
        if sequences and self.item_table is None:
            raise ConfigError(
                f"model: the sequence feature {sequences[0]} uses the item embeddings; "
                "set item_id = true"
            )
        self.augmented = augmented
        feeds_query = augmented is not None and config.augmented_query
        feeds_item = augmented is not None and config.augmented_item

        if config.combine == "sum":
            embedded = dim * bool(config.item_id or space.item_features)
        else:
            embedded = dim * config.item_id + self.item_encoder.output_dim()
        if embedded == 0:
            raise ConfigError("model: the item tower has no input; set item_id = true or features")
        self.history = _history(config, embedded) if config.history else None
        self.capsules = (
            InterestCapsules(
                embedded,
                config.history_length,
                interests=config.interests,
                iterations=config.routing_iterations,
            )
            if capsules
            else None
        )
        query_dims = [
            dim * config.query_id,
            self.query_encoder.output_dim(),
            self.context_encoder.output_dim(),
            self.history.output_dim(embedded) if self.history is not None else 0,
            augmented.query_dim if augmented is not None and feeds_query else 0,
            embedded if capsules else 0,
        ]
        if sum(query_dims) == 0:
            raise ConfigError(
                "model: the query tower has no input; set history = true, query_id = true, or name "
                "query features"
            )
        item_dim = embedded + (augmented.item_dim if augmented is not None and feeds_item else 0)
        _check_towers(config, query_dims, embedded, feeds_item)
        self.query_tower = self._tower(sum(query_dims)) if config.query_tower else None
        self.item_tower = self._tower(item_dim) if config.item_vectors == "tower" else None
        self.item_outputs = (
            EmbeddingTable(space.item_count, config.output_dim)
            if config.item_vectors == "table"
            else None
        )
        self.register_buffer("cached_inputs", torch.zeros(space.item_count, embedded))
        self.register_buffer("cached_vectors", torch.zeros(space.item_count, config.output_dim))

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.cached_vectors.device

    @property
    def item_count(self) -> int:
        """Rows of the item vocabulary, the unknown included."""
        return len(self.cached_vectors)

    @property
    def reads_events(self) -> bool:
        """Whether a query's past enters its tower at all."""
        return self.history is not None or self.capsules is not None or self.reads_past

    @property
    def reads_past(self) -> bool:
        """Whether a_u is computed from the p_v of past events."""
        return (
            self.augmented is not None and self.augmented.reads_past and self.config.augmented_query
        )

    def tables(self) -> list[EmbeddingTable]:
        """All row-sparse tables."""
        return [module for module in self.modules() if isinstance(module, EmbeddingTable)]

    def set_product_type(self, product_type: torch.dtype) -> None:
        """What the layers of the towers are computed in while training."""
        for module in self.modules():
            if isinstance(module, Tower):
                module.product_type = product_type

    def item_inputs(self, items: Tensor) -> Tensor:
        """The item embedding of item rows, each named once, `[n, embedded_dim]`."""
        parts: list[Tensor] = []
        if self.item_table is not None:
            parts.append(self.item_table(self._hide(items), unique=not self._hides))
        rows = items.cpu().numpy()
        columns = {name: column.take(rows) for name, column in self.item_features.items()}
        features = self.item_encoder(columns, self.item_table, self.device)
        if features is not None:
            parts.append(features)
        if len(parts) == 1:
            return parts[0]
        return parts[0] + parts[1] if self.config.combine == "sum" else torch.cat(parts, dim=1)

    def drop(self, embedded: Tensor) -> Tensor:
        """Dropout on embeddings, in training only; augmented vectors are not embeddings."""
        return functional.dropout(embedded, self.config.embedding_dropout, self.training)

    def encode_item(self, items: Tensor, inputs: Tensor, fold: int | None = None) -> Encoded:
        """p_v of item rows, each named once.

        Args:
            items: item rows, `[n]`.
            inputs: their `item_inputs`.
            fold: the fold whose queries a_v leaves out; None in serving.
        """
        augmented = None
        if self.augmented is not None and self.config.augmented_item:
            augmented = self.augmented.item(items, fold)
            inputs = torch.cat([inputs, augmented], dim=1)
        if self.item_tower is not None:
            return Encoded(self.item_tower(inputs), augmented)
        if self.item_outputs is not None:
            inputs = self.item_outputs(self._hide(items), unique=not self._hides)
        return Encoded(self._scaled(inputs), augmented)

    def encode_query(self, windows: QueryWindows, inputs: Tensor, vectors: Tensor) -> Encoded:
        """p_u of every target.

        Args:
            windows: the targets and their queries' past.
            inputs: item embeddings of the item block that `windows.events` points into.
            vectors: p_v of that block.
        """
        if not self.reads_events:
            return self._encode_query(windows, inputs, vectors)
        parts = windows.by_length()
        if len(parts) == 1:
            return self._encode_query(parts[0][1], inputs, vectors)
        encoded = [self._encode_query(part, inputs, vectors) for _, part in parts]
        order = torch.argsort(torch.cat([targets for targets, _ in parts]))

        def joined(found: Sequence[Tensor | None]) -> Tensor | None:
            there = [tensor for tensor in found if tensor is not None]
            return torch.cat(there).index_select(0, order) if there else None

        whole = joined([part.vectors for part in encoded])
        assert whole is not None
        return Encoded(
            whole,
            joined([part.augmented for part in encoded]),
            joined([part.interests for part in encoded]),
        )

    def _encode_query(self, windows: QueryWindows, inputs: Tensor, vectors: Tensor) -> Encoded:
        parts = []
        queries = self._hide(windows.queries[windows.window])
        if self.query_table is not None:
            parts.append(self.drop(self.query_table(queries)))
        features = self.query_encoder(windows.query_features, self.item_table, self.device)
        if features is not None:
            parts.append(functional.embedding(windows.window, self.drop(features)))
        context = self.context_encoder(windows.context, self.item_table, self.device)
        if context is not None:
            parts.append(self.drop(context))
        events = None
        if self.history is not None or self.capsules is not None:
            share = self.config.history_dropout if self.training else 0.0
            shown = hide_rows(windows.present, share)
            events = functional.embedding(windows.events, inputs) * shown[..., None]
        if self.history is not None:
            parts.append(self.history(events, windows.window, windows.known))
        augmented = None
        if self.augmented is not None and self.config.augmented_query:
            augmented = self.augmented.query(self._past(windows, queries, vectors))
            parts.append(augmented)
        if self.capsules is not None:
            assert self.query_tower is not None
            capsules, interests = self.capsules(events, windows.window, windows.known)
            encoded = encode_interests(capsules, interests, parts, self.query_tower)
            return Encoded(encoded, augmented, interests)
        if self.query_tower is None:
            return Encoded(self._scaled(torch.stack(parts).sum(0)), augmented)
        inputs = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return Encoded(self.query_tower(inputs), augmented)

    @torch.no_grad()
    def settle(self, block: int = 65_536) -> None:
        """Compute the cached embedding and p_v of every item row with the present weights."""
        was_training = self.training
        self.eval()
        for start in range(0, self.item_count, block):
            stop = min(start + block, self.item_count)
            items = torch.arange(start, stop, device=self.device)
            inputs = self.item_inputs(items)
            self.cached_inputs[start:stop] = inputs
            self.cached_vectors[start:stop] = self.encode_item(items, inputs).vectors
        self.train(was_training)

    @torch.no_grad()
    def encode_batch(self, batch: QueryBatch) -> Tensor:
        """p_u of queries at request time from the cached items, `[queries, output_dim]`.

        Of several interests `[queries, interests, output_dim]`.
        """
        was_training = self.training
        self.eval()
        windows = latest_windows(
            batch, self.config.history_length if self.reads_events else 0, self.device
        )
        encoded = self.encode_query(windows, self.cached_inputs, self.cached_vectors)
        self.train(was_training)
        return encoded.vectors

    @torch.no_grad()
    def encode_new_item(self, row: int, query_sum: Tensor, count: int) -> Tensor:
        """p_v of an item that training never saw, with the mean of its events' p_u as a_v.

        That mean is what the mimic loss (Eq. 2) pulls an a_v towards, so it stands for a learned
        a_v as well as for the closed form.

        Args:
            row: its row, whose cached embedding is used; 0 is the unknown.
            query_sum: sum of p_u over its events, `[output_dim]`.
            count: their number.
        """
        assert self.augmented is not None
        assert self.item_tower is not None
        augmented = self.augmented.project(query_sum[None] / count)
        was_training = self.training
        self.eval()
        inputs = torch.cat([self.cached_inputs[row : row + 1], augmented], dim=1)
        vector: Tensor = self.item_tower(inputs)[0]
        self.train(was_training)
        return vector

    def _past(self, windows: QueryWindows, queries: Tensor, vectors: Tensor) -> Past:
        if not self.reads_past:
            return Past(queries, windows.window, windows.known, None, None, None)
        events = functional.embedding(windows.events, vectors) * windows.present[..., None]
        earlier = vectors.new_zeros(len(windows.queries), vectors.shape[1])
        if len(windows.earlier.values):
            rows = self._to(windows.earlier.values.astype(np.int64))
            window = self._to(windows.earlier.row_of_value())
            earlier.index_add_(0, window, self.cached_vectors[rows])
        count = self._to(windows.earlier.lengths())
        if windows.before is not None:
            earlier += self._to(windows.before.vectors)
            count = count + self._to(windows.before.counts)
        return Past(queries, windows.window, windows.known, events, earlier, count)

    @property
    def _hides(self) -> bool:
        return self.training and self.config.id_dropout > 0

    def _hide(self, rows: Tensor) -> Tensor:
        """In training, replace a random share of rows by the unknown."""
        return hide_rows(rows, self.config.id_dropout if self.training else 0.0)

    def _scaled(self, vectors: Tensor) -> Tensor:
        return functional.normalize(vectors, dim=-1) if self.config.normalise else vectors

    def _to(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _encoder(self, specs: tuple[FeatureSpec, ...]) -> FeatureEncoder:
        config = self.config
        return FeatureEncoder(specs, config.embedding_dim, config.combine, config.id_dropout)

    def _tower(self, input_dim: int) -> Tower:
        return Tower(
            input_dim,
            self.config.hidden_dims,
            self.config.output_dim,
            last_relu=self.config.last_relu,
            linear_path=self.config.linear_path,
            layer_dropout=self.config.layer_dropout,
            normalise=self.config.normalise,
        )


def _history(config: ModelConfig, dim: int) -> HistoryEncoder | MeanEncoder | AttentionEncoder:
    """The encoder of a history of item embeddings `dim` long."""
    if config.history_form == "pools":
        return HistoryEncoder(config.history_length, config.history_pools)
    if config.history_form == "mean":
        return MeanEncoder(config.history_length)
    return AttentionEncoder(
        dim,
        config.history_length,
        blocks=config.attention_blocks,
        heads=config.attention_heads,
        dropout=config.attention_dropout,
    )


def _check_towers(
    config: ModelConfig, query_dims: list[int], embedded: int, feeds_item: bool
) -> None:
    """Refuse sides without a tower whose inputs do not have the length of the output.

    Raises:
        ConfigError: names the settings and what would be right.
    """
    wrong = [dim for dim in query_dims if dim not in (0, config.output_dim)]
    if not config.query_tower and wrong:
        raise ConfigError(
            "model: query_tower = false adds up the query's inputs, so each must be output_dim = "
            f"{config.output_dim} long; found one of {wrong[0]}. Set embedding_dim = "
            f'{config.output_dim}, combine = "sum", history_form = "attention" or "mean" and '
            "augmented_query = false, or query_tower = true"
        )
    if config.item_vectors == "embedding" and embedded != config.output_dim:
        raise ConfigError(
            'model: item_vectors = "embedding" makes the item embedding p_v, so it must be '
            f"output_dim = {config.output_dim} long; found {embedded}. Set embedding_dim = "
            f'{config.output_dim} and combine = "sum", or item_vectors = "tower"'
        )
    if config.item_vectors != "tower" and feeds_item:
        raise ConfigError(
            f'model: item_vectors = "{config.item_vectors}" has no item tower that could read a_v; '
            'set augmented_item = false, or item_vectors = "tower"'
        )
