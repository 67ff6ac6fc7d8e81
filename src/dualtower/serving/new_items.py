"""Items that training never saw: their augmented vector from their events, and their rank."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualtower.models.base import VectorModel
from dualtower.retrieval.exact import pair_scores
from dualtower.serving.event import Id


@dataclass(frozen=True)
class NewItems:
    """The new items at one moment, in the order of their first events.

    Item k has the position `len(corpus) + k`: they stand behind the bundle's own corpus.
    """

    ids: list[Id]
    """As the first event of each named it, `[items]`."""
    rows: npt.NDArray[np.int64]
    """Rows of the item vocabulary, `[items]`; 0 where it has none."""
    vectors: npt.NDArray[np.float32]
    """p_v, `[items, dim]`."""

    def __len__(self) -> int:
        """Number of new items."""
        return len(self.ids)


class NewItemVectors:
    """Keeps sum and count of p_u for each new item, and the vector that they give.

    a_v is the mean of p_u over the item's events, each from before the event, as for the items of
    training; beside it the item tower reads the unknown's embedding, or the item's own where the
    item has features. An event costs one run of the item tower.
    """

    def __init__(self, model: VectorModel, dim: int) -> None:
        """Start without items.

        Args:
            model: a fitted model.
            dim: length of an item vector.
        """
        self._model = model
        self._dim = dim
        self._number: dict[Id, int] = {}
        self._ids: list[Id] = []
        self._rows: list[int] = []
        self._sums: list[npt.NDArray[np.float64]] = []
        self._counts: list[int] = []
        self._vectors: list[npt.NDArray[np.float32]] = []
        self._snapshot: NewItems | None = None
        self.possible = model.encode_new_item(0, np.zeros(dim), 1) is not None
        """Whether the model can tell new items apart; if not, none are kept."""

    def observe(self, key: Id, item_id: Id, row: int, query_vector: npt.NDArray[np.float32]) -> int:
        """Count one event of an item.

        Args:
            key: what tells it from others.
            item_id: how to name it.
            row: its row in the vocabulary, or 0.
            query_vector: p_u of the event's query before the event, `[dim]`.

        Returns:
            Its place among the new items.
        """
        number = self._number.get(key)
        if number is None:
            number = self._number[key] = len(self._ids)
            self._ids.append(item_id)
            self._rows.append(row)
            self._sums.append(np.zeros(self._dim))
            self._counts.append(0)
            self._vectors.append(np.zeros(self._dim, dtype=np.float32))
        self._sums[number] += query_vector
        self._counts[number] += 1
        vector = self._model.encode_new_item(row, self._sums[number], self._counts[number])
        assert vector is not None
        self._vectors[number] = vector
        self._snapshot = None
        return number

    def place_of(self, key: Id) -> int:
        """The place of an item among the new ones; -1 where it is none."""
        return self._number.get(key, -1)

    def items(self) -> NewItems:
        """All new items as they are now; later events do not change what was returned."""
        if self._snapshot is None:
            vectors = np.array(self._vectors, dtype=np.float32).reshape(-1, self._dim)
            rows = np.array(self._rows, dtype=np.int64)
            self._snapshot = NewItems(list(self._ids), rows, vectors)
        return self._snapshot


def best_with_new(
    positions: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    new: NewItems,
    vector: npt.NDArray[np.float32],
    n: int,
    *,
    size: int,
    left_out: npt.NDArray[np.integer],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The n best of what was found in the bundle's corpus and of all new items.

    Args:
        positions: found in the corpus.
        scores: theirs.
        new: stand behind the corpus: item k has position `size + k`.
        vector: the query's, `[dim]`, or `[interests, dim]`, of which an item's best counts.
        n: how many items, from 1.
        size: of the corpus.
        left_out: positions that may not be returned, those in the corpus left out already.

    Returns:
        Positions and scores, best first; equal scores in order of position.
    """
    kept = np.ones(len(new), dtype=np.bool_)
    # A new item may have come between asking for the history and for the new items.
    kept[left_out[(left_out >= size) & (left_out < size + len(new))] - size] = False
    places = np.flatnonzero(kept)
    stacked = vector.reshape(1, -1, vector.shape[-1])
    own = pair_scores(stacked, new.vectors, np.zeros(len(places), dtype=np.int64), places)
    positions = np.concatenate([positions, size + places])
    scores = np.concatenate([scores, own])
    best = np.lexsort((positions, -scores))[:n]
    return positions[best], scores[best]
