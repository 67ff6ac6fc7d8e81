"""The terms of a factorization machine that one side's features add up to."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dualtower.data.columns import FeatureColumn, FeatureSpec
from dualtower.models.features import FeatureEncoder, segment_mean
from dualtower.models.table import EmbeddingTable
from dualtower.schema import FeatureKind


@dataclass(frozen=True)
class Terms:
    """Sums over the features of each row, x a feature's value, v its factors, w its weight."""

    factors: Tensor
    """Σ x v, `[rows, dim]`."""
    squares: Tensor
    """Σ x² ‖v‖², `[rows]`."""
    weights: Tensor
    """Σ x w, `[rows]`."""

    def __add__(self, other: "Terms") -> "Terms":
        return Terms(
            self.factors + other.factors,
            self.squares + other.squares,
            self.weights + other.weights,
        )

    def interactions(self) -> Tensor:
        """Σ over pairs of different features of x x' ⟨v, v'⟩, `[rows]` (Rendle 2010, Lemma 3.1)."""
        return (self.factors.square().sum(1) - self.squares) / 2


def one_hot(
    table: EmbeddingTable, weights: EmbeddingTable, rows: Tensor, *, unique: bool = False
) -> Terms:
    """The terms of one-hot features, x = 1 for each of `rows` `[n]`.

    Args:
        table: factors.
        weights: of the same rows, of length 1.
        rows: one row each, `[n]`.
        unique: promises that no row is named twice.
    """
    factors = table(rows, unique=unique)
    return Terms(factors, factors.square().sum(1), weights(rows, unique=unique).squeeze(1))


class FactorEncoder(FeatureEncoder):
    """A side's features with factors and weights of their own.

    A categorical feature is one-hot. A multi-valued one has x = 1 / n for each of its n values,
    and so has a sequence, whose factors and weights are the items' own. A numeric feature has its
    number for x, a vector one for each of its numbers.
    """

    def __init__(self, specs: tuple[FeatureSpec, ...], dim: int, id_dropout: float) -> None:
        super().__init__(specs, dim, "sum", id_dropout)
        self.weights = nn.ModuleDict()
        self.slopes = nn.ModuleDict()
        for place, spec in enumerate(specs):
            if str(place) in self.tables:
                self.weights[str(place)] = EmbeddingTable(spec.size, 1, std=0)
            elif str(place) in self.linears:
                slope = nn.Linear(spec.size, 1, bias=False)
                nn.init.zeros_(slope.weight)
                self.slopes[str(place)] = slope

    def terms(
        self,
        columns: dict[str, FeatureColumn],
        items: tuple[EmbeddingTable, EmbeddingTable] | None,
        device: torch.device,
    ) -> Terms | None:
        """The terms of every row; None without features.

        Args:
            columns: by name, all with the same number of rows.
            items: factors and weights of the items that sequences name; may be None where no
                feature is a sequence.
            device: where the result lies.
        """
        found: Terms | None = None
        for place, spec in enumerate(self.specs):
            terms = self._terms(str(place), spec, columns[spec.name], items, device)
            found = terms if found is None else found + terms
        return found

    def _terms(
        self,
        place: str,
        spec: FeatureSpec,
        column: FeatureColumn,
        items: tuple[EmbeddingTable, EmbeddingTable] | None,
        device: torch.device,
    ) -> Terms:
        values = torch.from_numpy(np.ascontiguousarray(column.values)).to(device)
        if spec.kind in (FeatureKind.NUMERIC, FeatureKind.VECTOR):
            values = values.reshape(len(column), spec.size)
            linear = self.linears[place]
            assert isinstance(linear, nn.Linear)
            squares = values.square() @ linear.weight.square().sum(0)
            return Terms(linear(values), squares, self.slopes[place](values).squeeze(1))
        if spec.kind == FeatureKind.SEQUENCE:
            assert items is not None
            table, weights = items
        else:
            table, weights = self.tables[place], self.weights[place]  # type: ignore[assignment]
        rows = self._hide(values.long())
        terms = one_hot(table, weights, rows)
        if column.offsets is None:
            return terms
        return _mean_of_lists(terms, rows, torch.from_numpy(column.offsets).to(device))


def _mean_of_lists(terms: Terms, rows: Tensor, offsets: Tensor) -> Terms:
    """The terms of lists whose n values have x = 1 / n each.

    A value that a list names several times is one feature with the x of all of them.
    """
    lengths = offsets.diff()
    owner = torch.repeat_interleave(lengths)
    pairs = torch.stack([owner, rows])
    _, place, counts = torch.unique(pairs, dim=1, return_inverse=True, return_counts=True)
    # Of a value's `times` mentions each adds `times / n²`: together (times / n)².
    times = counts[place]
    numbers = torch.stack([terms.squares * times, terms.weights], dim=1)
    means = segment_mean(numbers, offsets)
    return Terms(
        segment_mean(terms.factors, offsets),
        means[:, 0] / lengths.clamp(min=1),
        means[:, 1],
    )
