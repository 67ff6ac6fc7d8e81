"""The unique values of an id or feature column, and the row each one has."""

from datetime import UTC, date, datetime, time
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.tables import writing


class Vocabulary:
    """Values of one column, numbered from 1; row 0 is the unknown.

    Values keep their type (integer, string, …). A value of another type than the vocabulary's is
    cast when that loses nothing ("12" for 12) and is unknown otherwise. The texts of a boolean are
    "true" and "false", those of a date or time as in ISO 8601.
    """

    def __init__(self, values: pl.Series) -> None:
        """Number the `values` from 1 in the order given; they must be unique and not null."""
        self.values = values.rename("value")
        self._rows = pl.DataFrame(
            {"value": self.values, "row": np.arange(1, len(values) + 1, dtype=np.int32)}
        )

    def __len__(self) -> int:
        """Number of rows, the unknown included."""
        return len(self.values) + 1

    def encode(self, values: pl.Series) -> npt.NDArray[np.int32]:
        """The row of each value, `[len(values)]`; 0 where it is null or not in the vocabulary."""
        cast = self._cast(values)
        if self._is_large and len(cast) < len(self.values) // 16:
            return self._search(cast)
        joined = cast.to_frame("value").join(
            self._rows, on="value", how="left", maintain_order="left"
        )
        return joined["row"].fill_null(0).to_numpy().astype(np.int32)

    def decode(self, rows: npt.NDArray[np.integer]) -> pl.Series:
        """The value of each row; null for row 0."""
        with_unknown = pl.concat([pl.Series("value", [None], dtype=self.values.dtype), self.values])
        return with_unknown.gather(rows)

    def save(self, path: Path) -> None:
        """Write the values as a Parquet file of one column.

        Raises:
            OSError: it cannot be written.
        """
        with writing(path):
            self.values.to_frame().write_parquet(path)

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote."""
        return cls(pl.read_parquet(path, glob=False)["value"])

    def _cast(self, values: pl.Series) -> pl.Series:
        dtype, given = self.values.dtype, values.dtype
        if given == dtype:
            return values
        if given == pl.String and dtype in _PARSED:
            return _parsed(values, dtype)
        unknown = pl.Series([None] * len(values), dtype=dtype)
        if given.is_nested() or (dtype.is_temporal() and not given.is_temporal()):
            return unknown
        try:
            cast = values.cast(dtype, strict=False)
            numbers = _is_number(given) and _is_number(dtype)
            if numbers or (given.is_temporal() and dtype != pl.String):  # texts lose nothing
                same = cast.cast(given, strict=False) == values
                cast = cast.to_frame().select(pl.when(same).then(pl.first())).to_series()
        except pl.exceptions.PolarsError:  # of types that have nothing in common
            return unknown
        return cast

    @property
    def _is_large(self) -> bool:
        dtype = self.values.dtype
        return len(self.values) > 10_000 and (dtype == pl.String or dtype.is_integer())

    def _search(self, values: pl.Series) -> npt.NDArray[np.int32]:
        """The row of each of a few values: a join would look at the whole vocabulary."""
        ascending, rows = self._ascending
        place = np.minimum(ascending.search_sorted(values).to_numpy(), len(ascending) - 1)
        found = (ascending.gather(place) == values).fill_null(False).to_numpy()
        return np.where(found, rows[place], 0).astype(np.int32)

    @cached_property
    def _ascending(self) -> tuple[pl.Series, npt.NDArray[np.int64]]:
        """The values in order, and the row of each."""
        order = self.values.arg_sort()
        return self.values.gather(order), order.to_numpy().astype(np.int64) + 1


_PARSED = (pl.Boolean, pl.Date, pl.Datetime, pl.Time)
"""Types that Polars does not cast texts to."""


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean


def _parsed(texts: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Texts as one of the types of `_PARSED`; null where one is none."""
    if dtype == pl.Boolean:
        return texts.replace_strict(
            {"true": True, "false": False}, default=None, return_dtype=pl.Boolean
        )
    zone = dtype.time_zone if isinstance(dtype, pl.Datetime) else None

    def read(text: str | None) -> date | time | None:
        try:
            if text is None:
                return None
            if dtype == pl.Date:
                return date.fromisoformat(text)
            if dtype == pl.Time:
                clock = time.fromisoformat(text)
                return clock if clock.tzinfo is None else None
            moment = datetime.fromisoformat(text)
            if (moment.tzinfo is None) != (zone is None):
                return None
            return moment if zone is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):  # a year outside 1 to 9999 in UTC
            return None

    # A request holds few, and what a table holds is rarely of another type than the vocabulary.
    return pl.Series([read(text) for text in texts], dtype=dtype)
