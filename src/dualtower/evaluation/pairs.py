"""Query-item pairs of a block of queries: the targets to rank and the seen items to leave out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import Ragged, take_ranges


@dataclass(frozen=True)
class Pairs:
    """Distinct pairs of a query and a candidate, ordered by query."""

    query: npt.NDArray[np.int64]
    """Position of the query in its block, ascending, `[pairs]`."""
    column: npt.NDArray[np.int64]
    """Position of the candidate in the corpus, `[pairs]`."""

    def __len__(self) -> int:
        return len(self.query)

    def of_queries(self, queries: npt.NDArray[np.int64]) -> Ragged:
        """The columns paired with each of `queries`, one list per entry."""
        start = np.searchsorted(self.query, queries, side="left")
        end = np.searchsorted(self.query, queries, side="right")
        return take_ranges(self.column.astype(np.int32), start, end)


def distinct_pairs(
    lists: Ragged, item_count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each list's distinct values, ordered by list and value.

    Args:
        lists: item rows per query.
        item_count: rows of the item vocabulary; every value is below it.

    Returns:
        The list that each distinct pair belongs to, and its value, both `[pairs]`.
    """
    keys = np.sort(lists.row_of_value() * item_count + lists.values)
    # Sorting and comparing neighbours: np.unique hashes, which takes several times as long.
    keys = keys[np.diff(keys, prepend=-1) > 0]
    return keys // item_count, keys % item_count
