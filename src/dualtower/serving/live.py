"""What queries did since the bundle was built, and the vectors that follow from it at once."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.columns import EarlierSum, QueryBatch, Ragged
from dualtower.data.vocabulary import Vocabulary
from dualtower.retrieval.bundle import Bundle
from dualtower.serving.event import Event, Id
from dualtower.serving.new_items import (
    MOST_NEW_ITEMS,
    NewItems,
    NewItemVectors,
    best_with_new,
)
from dualtower.serving.store import EventStore

RowOf = Callable[[Id], int]
"""From an id to its row in a vocabulary, 0 where it is unknown."""


@dataclass(slots=True)
class _Query:
    """One query with live events."""

    row: int
    latest: list[int]
    """Item rows of its latest events: all that the model reads one by one."""
    earlier_sum: npt.NDArray[np.float64]
    """Sum of p_v over the events before those."""
    earlier_count: int
    positions: list[int]
    """Of the items of its live events, in the corpus or behind it."""


class LiveState:
    """A bundle and the events since: histories, augmented vectors, seen items and new items.

    The augmented vector of a query is a closed form, a sum over a count (`LeaveOut`), so an event
    is added to it in the same time whatever the history's length; a query that the bundle does not
    know starts from nothing. The bundle itself is not changed.

    An event of an item that is not in the bundle's corpus gives that item a vector
    (`NewItemVectors`), with which it is recommended from then on. In the query's history it is
    what training makes of an unknown item: the row it has, or row 0.

    The same events in the same order give the same vectors to the bit on the same machine with
    the same number of threads: every event is applied by itself, whatever the groups in which
    events arrive. Safe to use from several threads.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        after: int = 0,
        query_row: RowOf | None = None,
        item_row: RowOf | None = None,
        most_new: int = MOST_NEW_ITEMS,
    ) -> None:
        """Start with the bundle as it is.

        Args:
            bundle: what to recommend with.
            after: events of the store up to this place are in the bundle's histories already.
            query_row: finds a query's row; the bundle's vocabulary when None.
            item_row: finds an item's row; the bundle's vocabulary when None.
            most_new: the most new items that are kept; of more, the one whose first event is
                longest ago is let go of.
        """
        self.bundle = bundle
        self.applied = after
        """The place in the store up to which events were taken from it by `catch_up`."""
        encoder = bundle.encoder
        self._query_row = query_row or _row_of(encoder.query_vocabulary)
        self._item_row = item_row or _row_of(encoder.item_vocabulary)
        self._position = encoder.position_of_row
        self._vectors = bundle.model.encode_items()
        self._latest = bundle.model.reads_latest
        self._context = encoder.batch_of_rows(np.zeros(1, dtype=np.int64)).context
        self._queries: dict[Id, _Query] = {}
        self._new = NewItemVectors(bundle.model, bundle.index.dim, most_new)
        self._lock = threading.RLock()
        self._catching_up = threading.Lock()

    @classmethod
    def from_store(cls, bundle: Bundle, store: EventStore, **options: Any) -> "LiveState":
        """The state of `bundle` after all events of `store`: after a restart or a swap.

        Args:
            bundle: what to recommend with.
            store: the events.
            options: as of the constructor.

        Raises:
            StoreError: the store cannot be read.
        """
        state = cls(bundle, **options)
        state.catch_up(store)
        return state

    def catch_up(self, store: EventStore) -> int:
        """Apply what was committed since the last time, by this process or another.

        Returns:
            The number of events.

        Raises:
            StoreError: the store cannot be read.
        """
        count = 0
        with self._catching_up:
            for block in store.replay(after=self.applied):
                self.apply(block.events)
                self.applied = block.last
                count += len(block.events)
        return count

    def apply(self, events: Iterable[Event]) -> None:
        """Let events take effect, one after the other; exposures have none here.

        Give each event once: what is new is what `EventStore.append` says is new.
        """
        for event in events:
            if event.extends_history:
                with self._lock:
                    self._apply(event)

    def knows(self, query_id: Id) -> bool:
        """Whether the query has live events."""
        return bool(self._queries) and _key(self._query_row(query_id), query_id) in self._queries

    def batch_of(self, query_id: Id) -> QueryBatch:
        """The query as the model sees it now, one row; its context is unknown.

        Of a query with live events the history holds what the model reads one by one, and the
        rest stands as a sum in `earlier`.
        """
        row = self._query_row(query_id)
        rows = np.array([row], dtype=np.int64)
        features = self.bundle.encoder.query_features
        batch = QueryBatch(
            rows,
            Ragged.single(()),
            {name: column.take(rows) for name, column in features.items()},
            self._context,
        )
        with self._lock:
            query = self._queries.get(_key(row, query_id))
            if query is None:
                return replace(batch, history=self.bundle.encoder.history.take(rows))
            return _with_past(batch, query)

    def vector_of(self, query_id: Id) -> npt.NDArray[np.float32]:
        """p_u of the query now, `[dim]`; with several interests `[interests, dim]`."""
        vector: npt.NDArray[np.float32] = self.bundle.model.encode_queries(self.batch_of(query_id))[
            0
        ]
        return vector

    def seen(self, query_id: Id) -> npt.NDArray[np.int64]:
        """Positions of the items of the query's history, live events included; may repeat.

        A new item has the position `len(corpus) + k`, k being its number in `new_items`.
        """
        row = self._query_row(query_id)
        stored = self.bundle.encoder.history.take(np.array([row])).values
        known = self._position[stored]
        return np.concatenate([known[known >= 0], self._live_positions(row, query_id)])

    def live_items(self, query_id: Id) -> list[Id]:
        """The items of the query's live events, oldest first; those without a vector left out."""
        positions = self._live_positions(self._query_row(query_id), query_id)
        # Asked for last, so that no position is of an item that has come since.
        new, size = self.new_items(), len(self.bundle.index)
        return self.ids_of(
            positions[(positions < size) | (positions >= size + new.first)], new
        ).to_list()

    def new_items(self) -> NewItems:
        """The items that only live events know, with their vectors."""
        with self._lock:
            return self._new.items()

    def new_item_number(self, item_id: Id) -> int:
        """The item's number in `new_items`, as long as it is kept; -1 where it is none of them."""
        row = self._item_row(item_id)
        with self._lock:
            return self._new.number_of(_key(row, item_id))

    def new_items_named(self, ids: Iterable[Id]) -> list[int]:
        """The numbers of the new items among those that are named; found without their rows."""
        with self._lock:
            return self._new.numbers_named(ids)

    def live_queries(self) -> int:
        """How many queries have live events."""
        return len(self._queries)

    def recommend(self, query_id: Id, n: int = 100, *, exclude_seen: bool = True) -> pl.DataFrame:
        """The n best items for a query as it is now, new items among them.

        Args:
            query_id: known or not.
            n: how many; fewer only where fewer are left.
            exclude_seen: leave out the items of its history.

        Returns:
            A frame of the schema's item column, `score` and `rank` from 1, best first. An item
            id that training did not know is given as text where the column is text.

        Raises:
            ConfigError: n is below 1.
        """
        new = self.new_items()
        seen = self.seen(query_id) if exclude_seen else np.array([], dtype=np.int64)
        size = len(self.bundle.index)
        vector = self.vector_of(query_id)
        found = self.bundle.retriever.retrieve(
            vector[None], n, exclude=Ragged.single(seen[seen < size])
        )
        kept = found.positions[0] >= 0
        with self._lock:  # an event would change the vectors that are compared
            positions, scores = best_with_new(
                found.positions[0, kept],
                found.scores[0, kept],
                new,
                vector,
                n,
                size=size,
                left_out=seen,
            )
        return pl.DataFrame(
            {
                self.bundle.encoder.schema.item_id: self.ids_of(positions, new),
                "score": scores,
                "rank": np.arange(1, len(positions) + 1, dtype=np.int32),
            }
        )

    def ids_of(self, positions: npt.NDArray[np.int64], new: NewItems) -> pl.Series:
        """The item ids at positions, of new items too.

        Args:
            positions: in the corpus or behind it.
            new: what the positions behind the corpus point into.
        """
        encoder = self.bundle.encoder
        size = len(encoder.corpus)
        known = positions < size
        rows = encoder.corpus[np.where(known, positions, 0)]
        ids = encoder.item_vocabulary.decode(rows)
        if known.all():
            return ids
        named = new.ids[positions[~known] - size - new.first]
        values = ids.to_list()
        for place, item_id in zip(np.flatnonzero(~known), named, strict=True):
            values[place] = item_id
        try:
            return pl.Series(ids.name, values)
        except TypeError:  # numbers and texts, or numbers that no type of a column holds together
            return pl.Series(ids.name, [str(value) for value in values])

    def _live_positions(self, row: int, query_id: Id) -> npt.NDArray[np.int64]:
        with self._lock:
            query = self._queries.get(_key(row, query_id))
            return np.array([] if query is None else query.positions, dtype=np.int64)

    def _apply(self, event: Event) -> None:
        assert event.item_id is not None
        row = self._query_row(event.query_id)
        item = self._item_row(event.item_id)
        position = int(self._position[item])
        if position < 0:
            position = self._observe_new(event.query_id, event.item_id, item)
        key = _key(row, event.query_id)
        query = self._queries.get(key)
        if query is None:
            query = self._queries[key] = self._started(row)
        query.latest.append(item)
        if self._latest is not None and len(query.latest) > self._latest:
            query.earlier_sum += self._vectors[query.latest.pop(0)]
            query.earlier_count += 1
        if position >= 0:
            query.positions.append(position)

    def _observe_new(self, query_id: Id, item_id: Id, item: int) -> int:
        """The position of an event's item, which is not in the corpus; -1 without a vector."""
        if not self._new.possible:
            return -1
        number = self._new.observe(_key(item, item_id), item_id, item, self.vector_of(query_id))
        return len(self.bundle.index) + number

    def _started(self, row: int) -> _Query:
        """A query before its first live event."""
        stored = self.bundle.encoder.history.take(np.array([row])).values
        cut = 0 if self._latest is None else max(0, len(stored) - self._latest)
        total = self._vectors[stored[:cut]].sum(axis=0, dtype=np.float64)
        return _Query(row, stored[cut:].tolist(), total, cut, [])


def _with_past(batch: QueryBatch, query: _Query) -> QueryBatch:
    history = Ragged.single(query.latest)
    if query.earlier_count == 0:
        return replace(batch, history=history)
    earlier = EarlierSum(
        query.earlier_sum[None].astype(np.float32), np.array([query.earlier_count])
    )
    return replace(batch, history=history, earlier=earlier)


def _key(row: int, value: Id) -> Id:
    """What tells a query or item from others: 7 and "7" are the same, known or not."""
    return row if row > 0 else str(value)


def _row_of(vocabulary: Vocabulary) -> RowOf:
    return lambda value: int(vocabulary.encode(pl.Series([value]))[0])
