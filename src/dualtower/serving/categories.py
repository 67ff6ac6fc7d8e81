"""The items of each category, found without looking at the corpus."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

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

    def name_of(self, category: Id) -> str:
        """The category's own text, however it was named.

        Raises:
            DataError: no item has it; it says which are near.
        """
        row = self._row_of(category)
        if row == 0:
            self._encoder.positions_of_categories(pl.Series([category]))  # raises
        values = self._encoder.category_vocabulary.values
        name: str = values.slice(row - 1, 1).cast(pl.String)[0]
        return name

    def allowed(self, categories: Id | Sequence[Id]) -> Allowed:
        """The items of a category, or of any of several.

        Raises:
            DataError: a category that no item has; it says which are near.
        """
        names = [categories] if isinstance(categories, int | str) else list(categories)
        rows = tuple({self._row_of(name): None for name in names})
        if 0 in rows or not rows:
            # The encoder's own message names the unknown one and what is near it.
            for name in names:
                if self._row_of(name) == 0:
                    self._encoder.positions_of_categories(pl.Series([name]))
            return Allowed(self._positions[:0], (-1,), self._category)
        parts = [self._positions[self._ends[row] : self._ends[row + 1]] for row in rows]
        positions = parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))
        return Allowed(positions, rows, self._category)
