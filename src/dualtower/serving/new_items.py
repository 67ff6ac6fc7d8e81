"""Items that training never saw: their augmented vector from their events, and their rank."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dualtower.models.base import VectorModel
from dualtower.retrieval.exact import LEAST_LENGTH, lowest_kept, pair_scores
from dualtower.serving.event import Id

MOST_NEW_ITEMS = 10_000
"""So many are kept, unless asked otherwise: each is compared with every query."""
_LEAST_ROOM = 64


@dataclass(frozen=True)
class NewItems:
    """The new items that are kept, in the order of their first events.

    They are numbered in that order, those included that were let go of, and item number k has the
    position `len(corpus) + k`: they stand behind the bundle's own corpus, and no position is ever
    another item's. The arrays are views: a later event of an item changes its vector in them.
    """

    ids: npt.NDArray[Any]
    """As the first event of each named it, `[items]`."""
    rows: npt.NDArray[np.int64]
    """Rows of the item vocabulary, `[items]`; 0 where it has none."""
    vectors: npt.NDArray[np.float32]
    """p_v, `[items, dim]`."""
    lengths: npt.NDArray[np.float32]
    """Of the vectors, `[items]`; above 0, also of a vector of zeros."""
    first: int
    """The number of the first one: so many were let go of."""

    def __len__(self) -> int:
        """Number of new items."""
        return len(self.ids)

    def places(self, numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Places in the arrays of those of the numbered items that are kept."""
        places = numbers.astype(np.int64) - self.first
        inside: npt.NDArray[np.int64] = places[(places >= 0) & (places < len(self))]
        return inside


class NewItemVectors:
    """Keeps sum and count of p_u for each new item, and the vector that they give.

    a_v is the mean of p_u over the item's events, each from before the event, as for the items of
    training; beside it the item tower reads the unknown's embedding, or the item's own where the
    item has features. An event costs one run of the item tower.

    Where there is no room for another, the one whose first event is longest ago is let go of; its
    next event makes it a new item again, with nothing remembered.
    """

    def __init__(self, model: VectorModel, dim: int, most: int = MOST_NEW_ITEMS) -> None:
        """Start without items.

        Args:
            model: a fitted model.
            dim: length of an item vector.
            most: the most items that are kept.
        """
        self._model = model
        self._most = most
        self._number: dict[Id, int] = {}
        """By key, and by the text of the id that named the item first."""
        self._first = 0
        self._begin = self._end = 0
        """Where the kept ones lie in the arrays, which have room behind them."""
        self._ids = np.empty(0, dtype=object)
        self._keys = np.empty(0, dtype=object)
        self._rows = np.empty(0, dtype=np.int64)
        self._counts = np.empty(0, dtype=np.int64)
        self._sums = np.empty((0, dim))
        self._vectors = np.empty((0, dim), dtype=np.float32)
        self._lengths = np.empty(0, dtype=np.float32)
        self.possible = most > 0 and model.encode_new_item(0, np.zeros(dim), 1) is not None
        """Whether the model can tell new items apart; if not, none are kept."""

    def __len__(self) -> int:
        """Number of items kept."""
        return self._end - self._begin

    def observe(self, key: Id, item_id: Id, row: int, query_vector: npt.NDArray[np.float32]) -> int:
        """Count one event of an item.

        Args:
            key: what tells it from others.
            item_id: how to name it.
            row: its row in the vocabulary, or 0.
            query_vector: p_u of the event's query before the event, `[dim]`.

        Returns:
            Its number among the new items.
        """
        number = self._number.get(key)
        if number is None:
            number = self._add(key, item_id, row)
        place = self._begin + number - self._first
        self._sums[place] += query_vector
        self._counts[place] += 1
        vector = self._model.encode_new_item(row, self._sums[place], int(self._counts[place]))
        assert vector is not None
        self._vectors[place] = vector
        self._lengths[place] = _length(vector)
        return number

    def number_of(self, key: Id) -> int:
        """The number of an item among the new ones; -1 where it is none."""
        return self._number.get(key, -1)

    def numbers_named(self, ids: Iterable[Id]) -> list[int]:
        """The numbers of the new ones among items that are named as their first events did."""
        found = (self._number.get(str(item_id)) for item_id in ids)
        return [number for number in found if number is not None]

    def items(self) -> NewItems:
        """All new items that are kept; views."""
        kept = slice(self._begin, self._end)
        return NewItems(
            self._ids[kept],
            self._rows[kept],
            self._vectors[kept],
            self._lengths[kept],
            self._first,
        )

    def _add(self, key: Id, item_id: Id, row: int) -> int:
        if len(self) == self._most:
            self._let_go()
        if self._end == len(self._ids):
            self._make_room()
        number, place = self._first + len(self), self._end
        self._ids[place], self._keys[place], self._rows[place] = item_id, key, row
        self._counts[place] = 0
        self._sums[place] = self._vectors[place] = 0
        self._lengths[place] = LEAST_LENGTH
        self._number[key] = self._number[str(item_id)] = number
        self._end += 1
        return number

    def _let_go(self) -> None:
        """Forget the item whose first event is longest ago."""
        place = self._begin
        for name in (self._keys[place], str(self._ids[place])):
            self._number.pop(name, None)
        self._begin += 1
        self._first += 1

    def _make_room(self) -> None:
        """Move what is kept to arrays of twice its size; what `items` gave keeps the old ones."""
        kept = slice(self._begin, self._end)
        ids, keys = _roomy(self._ids[kept]), _roomy(self._keys[kept])
        rows, counts = _roomy(self._rows[kept]), _roomy(self._counts[kept])
        sums, vectors = _roomy(self._sums[kept]), _roomy(self._vectors[kept])
        lengths = _roomy(self._lengths[kept])
        # Memory may run out above; only from here on does anything change.
        self._ids, self._keys, self._rows, self._counts = ids, keys, rows, counts
        self._sums, self._vectors, self._lengths = sums, vectors, lengths
        self._begin, self._end = 0, len(self)


def _length(vector: npt.NDArray[np.float32]) -> float:
    return max(float(np.linalg.norm(vector)), LEAST_LENGTH)


def _roomy(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy with room for as many again behind it."""
    room = np.empty((max(_LEAST_ROOM, 2 * len(values)), *values.shape[1:]), dtype=values.dtype)
    room[: len(values)] = values
    return room


def best_with_new(
    positions: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    new: NewItems,
    vector: npt.NDArray[np.float32],
    n: int,
    *,
    size: int,
    left_out: npt.NDArray[np.integer],
    cosine: bool = False,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The n best of what was found in the bundle's corpus and of all new items.

    Args:
        positions: found in the corpus.
        scores: theirs.
        new: stand behind the corpus.
        vector: the query's, `[dim]`, or `[interests, dim]`, of which an item's best counts.
        n: how many items, from 1.
        size: of the corpus.
        left_out: positions that may not be returned, those in the corpus left out already.
        cosine: the new items are compared as if their vectors had length 1.

    Returns:
        Positions and scores, best first; equal scores in order of position.
    """
    if len(new) == 0:
        return positions[:n], scores[:n]
    stacked = vector.reshape(-1, vector.shape[-1])
    rough = (new.vectors @ stacked.T).max(axis=1)
    if cosine:
        rough /= new.lengths
    # A new item may have come, or gone, between asking for the history and for the new items.
    rough[new.places(left_out[left_out >= size] - size)] = -np.inf
    longest = 1.0 if cosine else float(new.lengths.max())
    places = np.flatnonzero(rough >= lowest_kept(rough[None], stacked[None], longest, n))
    first = np.zeros(len(places), dtype=np.int64)
    own = pair_scores(stacked[None], new.vectors, first, places)
    if cosine:
        own /= new.lengths[places]
    positions = np.concatenate([positions, size + new.first + places])
    scores = np.concatenate([scores, own])
    best = np.lexsort((positions, -scores))[:n]
    return positions[best], scores[best]
