"""The unique values of an id or feature column, and the row each one has."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl


class Vocabulary:
    """Values of one column, numbered from 1; row 0 is the unknown.

    Values keep their type (integer, string, …). A value of another type than the vocabulary's is
    cast when that loses nothing ("12" for 12) and is unknown otherwise.
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
        cast = pl.DataFrame({"value": values.cast(self.values.dtype, strict=False)})
        joined = cast.join(self._rows, on="value", how="left", maintain_order="left")
        return joined["row"].fill_null(0).to_numpy().astype(np.int32)

    def decode(self, rows: npt.NDArray[np.integer]) -> pl.Series:
        """The value of each row; null for row 0."""
        with_unknown = pl.concat([pl.Series("value", [None], dtype=self.values.dtype), self.values])
        return with_unknown.gather(rows)

    def save(self, path: Path) -> None:
        """Write the values as a Parquet file of one column."""
        self.values.to_frame().write_parquet(path)

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote."""
        return cls(pl.read_parquet(path)["value"])
