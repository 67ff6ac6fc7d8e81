"""One bundle, answering one query at a time in the fewest steps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.columns import QueryBatch, Ragged
from dualtower.errors import ConfigError, DataError
from dualtower.retrieval.bundle import Bundle
from dualtower.serving.categories import Categories
from dualtower.serving.event import Id
from dualtower.serving.ids import RowOfId, ids_of_rows
from dualtower.serving.live import LiveState
from dualtower.serving.new_items import NewItems, best_with_new
from dualtower.serving.search import CosineScan, OneSearch
from dualtower.serving.tower import QueryTower, Vector

Answer = tuple[npt.NDArray[Any], npt.NDArray[np.float32]]
"""Item ids and their scores, best first."""


class Engine:
    """Answers from one loaded bundle; equal to `Bundle.recommend` for one query.

    Not for several threads at once. The bundle's index searches with one thread from here on: one
    query has no work for more.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Prepare all that a request needs; takes about a second for a million ids."""
        self.bundle = bundle
        encoder = bundle.encoder
        bundle.index.threads = 1
        self.tower = QueryTower.of(bundle.model)
        self._row_of_query = RowOfId(encoder.query_vocabulary)
        self._row_of_item = RowOfId(encoder.item_vocabulary)
        self._position_of_row = encoder.position_of_row
        history = encoder.history
        # A view of a memory map as a plain array is cut several times faster.
        self._events: npt.NDArray[np.int32] = np.asarray(history.values)
        if isinstance(history, Ragged):
            offsets = np.asarray(history.offsets)
            self._starts, self._ends = offsets[:-1], offsets[1:]
        else:
            self._starts, self._ends = history.start, history.end
        self._ids = ids_of_rows(encoder.item_vocabulary, encoder.corpus)
        self._categories = Categories(encoder)
        self._search = OneSearch(bundle.retriever)
        # Of vectors of length 1, the nearest by cosine are those by inner product.
        self._scan = None if bundle.manifest.normalised else CosineScan(bundle.directions)
        unknown = encoder.batch_of_rows(np.zeros(1, dtype=np.int64))
        self._unknown_context = unknown.context
        self._has_features = bool(encoder.query_features)
        self._context = None if self.tower is None else self.tower.context(unknown.context)

    def recommend(
        self,
        query_id: Id | None = None,
        n: int = 100,
        *,
        exclude_seen: bool = True,
        exclude: Sequence[Id] = (),
        category: Id | Sequence[Id] | None = None,
        quota: Mapping[str, int] | None = None,
        history: Sequence[Id] | None = None,
        features: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        live: LiveState | None = None,
    ) -> Answer:
        """Exactly the n best items that the query has not seen, or all where fewer are left.

        Args:
            query_id: whom to recommend to; an unknown one, or None, is a new query.
            n: how many items, from 1.
            exclude_seen: leave out the items of the query's history.
            exclude: items left out besides; unknown ones are ignored.
            category: only items of this category, or of any in a list.
            quota: how many items of each category instead of `n`; together they come by score. Of a
                category that is named twice (`merged`) the counts add up.
            history: item ids, oldest first, instead of the stored events and those of `live`.
            features: the query's features by name, instead of the stored ones.
            context: the context's features by name.
            live: events since the bundle was built.

        Returns:
            Item ids and scores, best first; equal scores in order of the items' rows.

        Raises:
            ConfigError: n or a quota below 1; a category and a quota.
            DataError: an unknown category, or a feature of the wrong type or name.
        """
        if n < 1:
            raise ConfigError(f"n: {n} items asked for; it should be 1 or more")
        seen, vector = self._query(query_id, history, features, context, live)
        left_out = self._left_out(seen if exclude_seen else seen[:0], exclude)
        if quota is None:
            allowed = None if category is None else self._categories.allowed(category)
            positions, scores = self._search.best(vector, n, self._inside(left_out), allowed)
            if live is not None and allowed is None and len(new := live.new_items()):
                given = [*exclude, *(history or () if exclude_seen else ())]
                if given:
                    behind = np.array(live.new_items_named(given), dtype=np.int64)
                    left_out = np.concatenate([left_out, behind + len(self._ids)])
                positions, scores = best_with_new(
                    positions, scores, new, vector, n, size=len(self._ids), left_out=left_out
                )
                return self._named(positions, new), scores
        elif category is not None:
            raise ConfigError("category and quota: give one of them; a quota names its categories")
        else:
            positions, scores = self._by_quota(vector, quota, self._inside(left_out))
        return self._ids[positions], scores

    def similar(self, item_id: Id, n: int = 20, *, live: LiveState | None = None) -> Answer:
        """The n items nearest to an item by cosine, as `Bundle.similar_items`.

        Args:
            item_id: in the corpus, or a new one of `live`.
            n: how many items, from 1.
            live: events since the bundle was built, whose new items are compared too.

        Raises:
            DataError: the item is unknown or has no vector.
            ConfigError: n is below 1.
        """
        if n < 1:
            raise ConfigError(f"n: {n} items asked for; it should be 1 or more")
        position = self._vector_position(item_id, live)
        if position < 0:
            self.bundle.similar_items([item_id])  # raises, and says what is wrong with the item
        new = None if live is None else live.new_items()
        size = len(self._ids)
        if position < size:
            vector = self._unit_vector(position)
        else:
            assert new is not None
            place = position - size - new.first
            vector = new.vectors[place] / new.lengths[place]
        itself = np.array([position], dtype=np.int64)
        if self._scan is None:
            positions, scores = self._search.best(vector, n, self._inside(itself), None)
        else:
            positions, scores = self._scan.best(vector, n, self._inside(itself))
        if new is None or len(new) == 0:
            return self._ids[positions], scores
        found = best_with_new(
            positions, scores, new, vector, n, size=size, left_out=itself, cosine=True
        )
        return self._named(found[0], new), found[1]

    def has_vector(self, item_id: Id, live: LiveState | None = None) -> bool:
        """Whether `similar` can say what is near the item."""
        return self._vector_position(item_id, live) >= 0

    def _vector_position(self, item_id: Id, live: LiveState | None) -> int:
        """The item's place in the corpus or behind it; -1 where it has no vector."""
        position = self.position_of_item(item_id)
        if position >= 0 or live is None:
            return position
        number = live.new_item_number(item_id)
        return number if number < 0 else len(self._ids) + number

    def _unit_vector(self, position: int) -> Vector:
        """The vector of an item of the corpus, at length 1."""
        if self._scan is None:
            vector: Vector = self._search.vectors[position]
            return vector
        return self._scan.unit_vector(position)

    def position_of_item(self, item_id: Id) -> int:
        """The item's place in the corpus; -1 where it has none."""
        return int(self._position_of_row[self._row_of_item(item_id)])

    def live_state(self, **options: Any) -> LiveState:
        """The state of events for this bundle, with this engine's faster search for ids.

        Args:
            options: as of `LiveState`.
        """
        return LiveState(
            self.bundle, query_row=self._row_of_query, item_row=self._row_of_item, **options
        )

    @cached_property
    def known_queries(self) -> npt.NDArray[np.int64]:
        """Rows of the queries with a history, ascending; found once, for there may be millions."""
        return self.bundle.encoder.known_queries()

    def row_of_query(self, query_id: Id) -> int:
        """The query's row in the vocabulary; 0 where it is unknown."""
        return self._row_of_query(query_id)

    def categories_of(self, items: Sequence[Id]) -> list[str | None]:
        """The categories of items, as texts; None where an item is unknown or has none."""
        encoder = self.bundle.encoder
        rows = encoder.item_categories[self._row_of_item.rows(items)]
        return encoder.category_vocabulary.decode(rows).cast(pl.String).to_list()

    def history_of(self, row: int) -> npt.NDArray[np.int32]:
        """Item rows of the stored events of a query row, oldest first."""
        return self._events[self._starts[row] : self._ends[row]]

    def _query(
        self,
        query_id: Id | None,
        history: Sequence[Id] | None,
        features: Mapping[str, Any] | None,
        context: Mapping[str, Any] | None,
        live: LiveState | None,
    ) -> tuple[npt.NDArray[np.integer], Vector]:
        """Positions of the items of the history, and p_u."""
        encoder = self.bundle.encoder
        row = 0 if query_id is None else self._row_of_query(query_id)
        batch = None
        if history is not None:
            past: npt.NDArray[np.integer] = self._row_of_item.rows(history)
            past = past[past > 0]
            seen: npt.NDArray[np.integer] = self._position_of_row[past]
        elif live is not None and query_id is not None and live.knows(query_id):
            batch = live.batch_of(query_id)
            seen = live.seen(query_id)
        else:
            past = self.history_of(row)
            seen = self._position_of_row[past]
        if self.tower is not None and features is None and context is None and batch is None:
            known = self._stored_features(row)
            return seen, self.tower.vector(row, past, known, self._context)
        if batch is None:
            rows = np.array([row], dtype=np.int64)
            batch = QueryBatch(
                rows,
                Ragged.single(past),
                {name: column.take(rows) for name, column in encoder.query_features.items()},
                self._unknown_context,
            )
        if features is not None or context is not None:
            given = encoder.batch(
                pl.Series([None], dtype=encoder.query_vocabulary.values.dtype),
                features=_frame(features, "features"),
                context=_frame(context, "context"),
            )
            batch = replace(
                batch,
                features=batch.features if features is None else given.features,
                context=batch.context if context is None else given.context,
            )
        if self.tower is not None:
            return seen, self.tower.encode(batch)
        return seen, self.bundle.model.encode_queries(batch)[0]

    def _stored_features(self, row: int) -> Vector | None:
        if not self._has_features:
            return None
        assert self.tower is not None
        rows = np.array([row], dtype=np.int64)
        columns = self.bundle.encoder.query_features
        return self.tower.query_features(
            {name: column.take(rows) for name, column in columns.items()}
        )

    def _left_out(
        self, seen: npt.NDArray[np.integer], exclude: Sequence[Id]
    ) -> npt.NDArray[np.integer]:
        """Positions that may not be returned; repeats and -1 do no harm."""
        if not exclude:
            return seen
        return np.concatenate([seen, self._position_of_row[self._row_of_item.rows(exclude)]])

    def _inside(self, positions: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """The positions that are in the corpus."""
        if len(positions) and (positions.min() < 0 or positions.max() >= len(self._ids)):
            kept = (positions >= 0) & (positions < len(self._ids))
            inside: npt.NDArray[np.integer] = positions[kept]
            return inside
        return positions

    def _named(self, positions: npt.NDArray[np.int64], new: NewItems) -> npt.NDArray[Any]:
        """The ids of items of the corpus and behind it."""
        size = len(self._ids)
        ids = [
            self._ids[place] if place < size else new.ids[place - size - new.first]
            for place in positions.tolist()
        ]
        return np.array(ids, dtype=object)

    def merged(self, quota: Mapping[str, int]) -> dict[str, int]:
        """A quota with each category once, by its own text: "07" and "7" of numbers are the same.

        Args:
            quota: how many items of each category.

        Raises:
            ConfigError: there is none in it, or fewer than 1 are asked for of one.
            DataError: a category that no item has.
        """
        names = self._categories.names
        return {names[row - 1]: count for row, count in self._merged_rows(quota).items()}

    def _merged_rows(self, quota: Mapping[str, int]) -> dict[int, int]:
        """As `merged`, by the category's row."""
        if not quota:
            raise ConfigError("quota: no category in it; name at least one")
        for category, count in quota.items():
            if count < 1:
                raise ConfigError(
                    f"quota: {count} items of {category!r} asked for; it should be 1 or more"
                )
        result: dict[int, int] = {}
        rows = self._categories.rows(list(quota))
        for row, count in zip(rows, quota.values(), strict=True):
            result[row] = result.get(row, 0) + count
        return result

    def _by_quota(
        self, vector: Vector, quota: Mapping[str, int], left_out: npt.NDArray[np.integer]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        found = [
            self._search.best(vector, count, left_out, self._categories.allowed_rows((row,)))
            for row, count in self._merged_rows(quota).items()
        ]
        positions = np.concatenate([part[0] for part in found])
        scores = np.concatenate([part[1] for part in found])
        order = np.lexsort((positions, -scores))
        return positions[order], scores[order]


def _frame(values: Mapping[str, Any] | None, what: str) -> pl.DataFrame | None:
    if values is None:
        return None
    if not values:
        raise DataError(f"{what}: nothing in it; name at least one, or leave it out")
    try:
        return pl.DataFrame({name: [value] for name, value in values.items()}, strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{what}: a value is not of one type ({error})") from None
