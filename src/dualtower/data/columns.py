"""Encoded columns: flat arrays, with offsets where a row holds a list."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dualtower.schema import Feature, FeatureKind

Positions = npt.NDArray[np.int64]
"""Places in flat arrays."""


@dataclass(frozen=True)
class Ragged:
    """A list of integers per row: row r is `values[offsets[r]:offsets[r + 1]]`."""

    values: npt.NDArray[np.int32]
    """All rows' values, one after the other, `[total]`."""
    offsets: npt.NDArray[np.int64]
    """Where each row begins, `[rows + 1]`; the first is 0, the last is total."""

    @classmethod
    def single(cls, values: Sequence[int] | npt.NDArray[np.integer]) -> "Ragged":
        """One row that holds these values; an int32 array is shared, not copied."""
        found = np.asarray(values, dtype=np.int32)
        return cls(found, np.array([0, len(found)], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of values of each row, `[rows]`."""
        return np.diff(self.offsets)

    def row_of_value(self) -> npt.NDArray[np.int64]:
        """The row that each value belongs to, `[total]`."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths())

    def take(self, rows: npt.NDArray[np.integer]) -> "Ragged":
        """The lists of `rows`, in that order, as a new `Ragged`."""
        return take_ranges(self.values, self.offsets[rows], self.offsets[np.asarray(rows) + 1])


@dataclass(frozen=True)
class Ranges:
    """A list of integers per row, in a longer array: row r is `values[start[r]:end[r]]`."""

    values: npt.NDArray[np.int32]
    """Flat array, may be memory-mapped."""
    start: npt.NDArray[np.int64]
    """Where each row begins, `[rows]`."""
    end: npt.NDArray[np.int64]
    """One past where it ends, `[rows]`."""

    def __len__(self) -> int:
        return len(self.start)

    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of values of each row, `[rows]`."""
        return np.asarray(self.end - self.start, dtype=np.int64)

    def take(self, rows: npt.NDArray[np.integer]) -> Ragged:
        """The lists of `rows`, in that order, copied."""
        return take_ranges(self.values, self.start[rows], self.end[rows])


def take_ranges(
    values: npt.NDArray[np.int32], start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> Ragged:
    """Gather `values[start[r]:end[r]]` for every r into one `Ragged`, without a loop.

    Args:
        values: flat array, may be memory-mapped.
        start: `[rows]`, first position of each range.
        end: `[rows]`, one past the last position; not before `start`.
    """
    positions, offsets = positions_in(start, end)
    return Ragged(np.asarray(values[positions], dtype=np.int32), offsets)


def positions_in(start: Positions, end: Positions) -> tuple[Positions, Positions]:
    """The positions `start[r]` to `end[r] - 1` of every r, one range behind another.

    Args:
        start: `[rows]`, first position of each range.
        end: `[rows]`, one past the last position; not before `start`.

    Returns:
        positions: `[total]`.
        offsets: where each range begins among them, `[rows + 1]`.
    """
    lengths = np.asarray(end, dtype=np.int64) - np.asarray(start, dtype=np.int64)
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths), offsets


@dataclass(frozen=True)
class FeatureColumn:
    """One encoded feature for many rows.

    `values` by kind: categorical int32 `[rows]` (0 is the unknown); numeric float32 `[rows]`
    (standardised, missing 0); vector float32 `[rows, size]`; multi-valued and sequence int32
    `[total]` with `offsets` int64 `[rows + 1]`.
    """

    feature: Feature
    values: npt.NDArray[np.int32] | npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.values) if self.offsets is None else len(self.offsets) - 1

    def take(self, rows: npt.NDArray[np.integer]) -> "FeatureColumn":
        """The column for `rows`, in that order."""
        if self.offsets is None:
            return FeatureColumn(self.feature, np.asarray(self.values[rows]))
        ragged = Ragged(self.values, self.offsets).take(rows)  # type: ignore[arg-type]
        return FeatureColumn(self.feature, ragged.values, ragged.offsets)


@dataclass(frozen=True)
class FeatureSpec:
    """What a model must know of a feature to embed it."""

    name: str
    kind: FeatureKind
    size: int
    """Vocabulary rows with the unknown; items for a sequence; a vector's length; else 1."""


@dataclass(frozen=True)
class FeatureSpace:
    """The sizes that a model is built from."""

    query_count: int
    """Rows of the query vocabulary, the unknown row 0 included."""
    item_count: int
    """Rows of the item vocabulary, the unknown row 0 included."""
    category_count: int
    """Rows of the category vocabulary, the unknown included; 1 without categories."""
    query_features: tuple[FeatureSpec, ...] = ()
    item_features: tuple[FeatureSpec, ...] = ()
    context_features: tuple[FeatureSpec, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain values for a JSON manifest."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FeatureSpace":
        """What `to_dict` gave, also after a round trip through JSON."""
        sides = ("query_features", "item_features", "context_features")
        specs = {
            side: tuple(
                FeatureSpec(spec["name"], FeatureKind(spec["kind"]), spec["size"])
                for spec in values[side]
            )
            for side in sides
        }
        return cls(**{**values, **specs})


@dataclass(frozen=True)
class EarlierSum:
    """What queries did before the events that a batch names, added up."""

    vectors: npt.NDArray[np.float32]
    """Sum of p_v over those events, `[queries, dim]`."""
    counts: npt.NDArray[np.int64]
    """Their number, `[queries]`."""

    def take(self, rows: npt.NDArray[np.integer]) -> "EarlierSum":
        """The sums of the queries at these positions."""
        return EarlierSum(self.vectors[rows], self.counts[rows])


@dataclass(frozen=True)
class QueryBatch:
    """Queries as a model sees them: nothing else of the dataset is needed to encode them."""

    rows: npt.NDArray[np.int64]
    """Rows of the query vocabulary, `[queries]`; 0 is the unknown query."""
    history: Ragged
    """Item rows of each query's events so far, oldest first."""
    features: dict[str, FeatureColumn]
    """The query's features by name, each with `len(rows)` rows."""
    context: dict[str, FeatureColumn]
    """The context of the request by name, each with `len(rows)` rows."""
    earlier: EarlierSum | None = None
    """What stands before `history`, for a model that reads a sum of it
    (`VectorModel.reads_latest`); None where `history` is whole."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: npt.NDArray[np.integer]) -> "QueryBatch":
        """The batch of the queries at these positions of this batch."""
        return QueryBatch(
            rows=self.rows[rows],
            history=self.history.take(rows),
            features={name: column.take(rows) for name, column in self.features.items()},
            context={name: column.take(rows) for name, column in self.context.items()},
            earlier=None if self.earlier is None else self.earlier.take(rows),
        )
