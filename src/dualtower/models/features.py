"""Embedding the features of a side, summed or concatenated."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from dualtower.data.columns import FeatureColumn, FeatureSpec
from dualtower.models.table import EmbeddingTable
from dualtower.schema import FeatureKind

ItemEmbedding = Callable[[Tensor], Tensor] | None


class FeatureEncoder(nn.Module):
    """Embeds the features of one side (query, item or context).

    Categorical: a row of a table. Multi-valued: the mean of its rows. Numeric and vector: a linear
    map. Sequence of items: the mean of the item embeddings. In training a share `id_dropout` of
    the values that name a row is replaced by the unknown, so that row 0 is trained.
    """

    def __init__(
        self, specs: tuple[FeatureSpec, ...], dim: int, combine: str, id_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.specs = specs
        self.dim = dim
        self.combine = combine
        self.id_dropout = id_dropout
        self.tables = nn.ModuleDict()
        self.linears = nn.ModuleDict()
        # By place, since a column's name (`type`, `a.b`) need not do as a module's.
        for place, spec in enumerate(specs):
            if spec.kind in (FeatureKind.CATEGORICAL, FeatureKind.MULTI_VALUED):
                self.tables[str(place)] = EmbeddingTable(spec.size, dim)
            elif spec.kind in (FeatureKind.NUMERIC, FeatureKind.VECTOR):
                self.linears[str(place)] = nn.Linear(spec.size, dim, bias=False)

    def output_dim(self) -> int:
        """Length of what `forward` gives; 0 without features."""
        return self.dim * (min(1, len(self.specs)) if self.combine == "sum" else len(self.specs))

    def forward(
        self, columns: dict[str, FeatureColumn], item_embedding: ItemEmbedding, device: torch.device
    ) -> Tensor | None:
        """Embed every feature; `[rows, output_dim]`, None without features.

        Args:
            columns: by name, all with the same number of rows.
            item_embedding: maps item rows `[n]` to their embeddings `[n, dim]` (sequences).
            device: where the result lies.

        `item_embedding` may be None where no feature is a sequence.
        """
        parts = [
            self._embed(place, columns[spec.name], item_embedding, device)
            for place, spec in enumerate(self.specs)
        ]
        if not parts:
            return None
        return torch.stack(parts).sum(0) if self.combine == "sum" else torch.cat(parts, dim=1)

    def _embed(
        self,
        place: int,
        column: FeatureColumn,
        item_embedding: ItemEmbedding,
        device: torch.device,
    ) -> Tensor:
        spec = self.specs[place]
        values = torch.from_numpy(np.ascontiguousarray(column.values)).to(device)
        if spec.kind == FeatureKind.CATEGORICAL:
            embedded: Tensor = self.tables[str(place)](self._hide(values.long()))
            return embedded
        if spec.kind in (FeatureKind.NUMERIC, FeatureKind.VECTOR):
            mapped: Tensor = self.linears[str(place)](values.reshape(len(column), spec.size))
            return mapped
        assert column.offsets is not None
        offsets = torch.from_numpy(column.offsets).to(device)
        embed = item_embedding if spec.kind == FeatureKind.SEQUENCE else self.tables[str(place)]
        assert embed is not None
        return segment_mean(embed(self._hide(values.long())), offsets)

    def _hide(self, rows: Tensor) -> Tensor:
        return hide_rows(rows, self.id_dropout if self.training else 0.0)


def hide_rows(rows: Tensor, share: float) -> Tensor:
    """Replace a random share of rows by the unknown, row 0; of a mask, by False."""
    if share == 0:
        return rows
    return rows * (torch.rand(rows.shape, device=rows.device) >= share)


def segment_mean(values: Tensor, offsets: Tensor) -> Tensor:
    """Mean of each segment `values[offsets[i]:offsets[i + 1]]`, zero where it is empty.

    Args:
        values: `[total, dim]`.
        offsets: `[segments + 1]`.
    """
    lengths = offsets.diff()
    segment = torch.repeat_interleave(lengths)
    sums = values.new_zeros(len(lengths), values.shape[1]).index_add(0, segment, values)
    return sums / lengths.clamp(min=1)[:, None]
