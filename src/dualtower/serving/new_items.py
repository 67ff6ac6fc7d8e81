"""Items that training never saw: their augmented vector from their events, and a search of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import Ragged
from dualtower.models.base import VectorModel
from dualtower.retrieval.exact import Candidates, best_of_pairs, pair_scores
from dualtower.retrieval.retriever import Retriever
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

    def items(self) -> NewItems:
        """All new items as they are now; later events do not change what was returned."""
        if self._snapshot is None:
            vectors = np.array(self._vectors, dtype=np.float32).reshape(-1, self._dim)
            rows = np.array(self._rows, dtype=np.int64)
            self._snapshot = NewItems(list(self._ids), rows, vectors)
        return self._snapshot


def retrieve_with_new(
    retriever: Retriever,
    new: NewItems,
    queries: npt.NDArray[np.float32],
    n: int,
    *,
    exclude: Ragged | None = None,
) -> Candidates:
    """The n best items of each query among the bundle's corpus and the new items.

    All new items are compared; the others are found as `Retriever.retrieve` finds them.

    Args:
        retriever: serves the bundle's corpus.
        new: stand behind it: item k has position `len(retriever.index) + k`.
        queries: `[queries, dim]` or `[queries, interests, dim]`.
        n: items per query, at least 1.
        exclude: positions left out for each query.

    Raises:
        ConfigError: n is below 1.
        DataError: queries of another dimension or with NaN; positions outside the corpus.
    """
    size = len(retriever.index)
    inside, outside = (None, None) if exclude is None else _split(exclude, size)
    found = retriever.retrieve(queries, n, exclude=inside)
    if len(new) == 0 or len(queries) == 0:
        return found
    stacked = queries[:, None] if queries.ndim == 2 else queries
    query = np.repeat(np.arange(len(queries)), len(new))
    place = np.tile(np.arange(len(new)), len(queries))
    if outside is not None and len(outside.values) > 0:
        left_out = outside.row_of_value() * len(new) + outside.values
        kept = ~np.isin(query * len(new) + place, left_out)
        query, place = query[kept], place[kept]
    scores = pair_scores(stacked, new.vectors, query, place)
    old_query, rank = np.nonzero(found.positions >= 0)
    return best_of_pairs(
        np.concatenate([old_query, query]),
        np.concatenate([found.positions[old_query, rank], place + size]),
        np.concatenate([found.scores[old_query, rank], scores]),
        len(queries),
        n,
    )


def _split(lists: Ragged, size: int) -> tuple[Ragged, Ragged]:
    """The values below `size`, and the others less `size`."""
    below = lists.values < size
    return _chosen(lists, below, 0), _chosen(lists, ~below, size)


def _chosen(lists: Ragged, kept: npt.NDArray[np.bool_], shift: int) -> Ragged:
    lengths = np.bincount(lists.row_of_value()[kept], minlength=len(lists))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Ragged(lists.values[kept] - np.int32(shift), offsets)
