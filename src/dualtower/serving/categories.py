"""The items of each category, found without looking at the corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.errors import DataError
from dualtower.retrieval.requests import RequestEncoder
from dualtower.serving.event import Id
from dualtower.serving.ids import RowOfId


@dataclass(frozen=True)
class Allowed:
    """The only items that may be returned."""

    positions: npt.NDArray[np.int64]
    """Positions in the corpus, ascending."""
    rows: tuple[int, ...]
    """The categories' rows."""
    category_of_position: npt.NDArray[np.int32]
    """Category row of every position."""

    def holds(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each position may be returned."""
        found = self.category_of_position[positions]
        inside: npt.NDArray[np.bool_] = found == self.rows[0]
        for row in self.rows[1:]:
            inside |= found == row
        return inside


class Categories:
    """The positions of each category's items, one after the other."""

    def __init__(self, encoder: RequestEncoder) -> None:
        self._encoder = encoder
        self._row_of = RowOfId(encoder.category_vocabulary)
        self._category = np.ascontiguousarray(encoder.item_categories[encoder.corpus])
        self._positions = np.argsort(self._category, kind="stable")
        ends = np.bincount(self._category, minlength=len(encoder.category_vocabulary)).cumsum()
        self._ends = np.concatenate([[0], ends])

    @cached_property
    def names(self) -> list[str]:
        """The text of each category; that of row r is at r - 1."""
        return self._encoder.category_vocabulary.values.cast(pl.String).to_list()

    def rows(self, categories: Sequence[Id]) -> list[int]:
        """The row of each category, however it is named.

        Raises:
            DataError: no item has one of them; it says which are near.
        """
        rows: list[int] = self._row_of.rows(categories).tolist()
        if 0 in rows:
            unknown = categories[rows.index(0)]
            self._encoder.positions_of_categories(pl.Series([unknown]))  # says what is near
            raise DataError(f"category: {unknown!r} is not one of the categories")
        return rows

    def allowed(self, categories: Id | Sequence[Id]) -> Allowed:
        """The items of a category, or of any of several.

        Raises:
            DataError: a category that no item has; it says which are near.
        """
        names = [categories] if isinstance(categories, int | str) else list(categories)
        return self.allowed_rows(tuple(dict.fromkeys(self.rows(names))))

    def allowed_rows(self, rows: tuple[int, ...]) -> Allowed:
        """The items of any of the categories with these rows, each named once."""
        if not rows:
            return Allowed(self._positions[:0], (-1,), self._category)
        parts = [self._positions[self._ends[row] : self._ends[row + 1]] for row in rows]
        positions = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
        return Allowed(positions, rows, self._category)
