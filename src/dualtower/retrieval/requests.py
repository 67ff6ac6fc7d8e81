"""What a bundle knows of queries and items beside the model, and requests encoded with it."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.columns import FeatureColumn, FeatureSpace, QueryBatch, Ragged, Ranges
from dualtower.data.dataset import Log
from dualtower.data.encode import Side, encode_features
from dualtower.data.tables import collect, open_table
from dualtower.data.vocabulary import Vocabulary
from dualtower.errors import ConfigError, DataError
from dualtower.schema import Feature, FeatureKind, Schema

Ids = Sequence[Any] | pl.Series | npt.NDArray[Any]
"""Ids of the user's own type, one per row."""
Frame = Any
"""A Polars or pandas frame, an Arrow table, or a path of Parquet or CSV."""

_MOST_COMPARED, _LONGEST_COMPARED = 20, 60
"""Categories that are compared with an unknown one, and characters of each: a comparison takes
about a tenth of a millisecond, in which a server answers nobody."""


@dataclass(frozen=True)
class RequestEncoder:
    """Turns requests in the user's ids and values into what model and retriever take.

    Arrays may be memory-mapped files.
    """

    schema: Schema
    space: FeatureSpace
    query_vocabulary: Vocabulary
    item_vocabulary: Vocabulary
    category_vocabulary: Vocabulary
    feature_vocabularies: dict[str, Vocabulary]
    """By `side/name`, as in the dataset."""
    numeric_scales: dict[str, tuple[float, float]]
    """By `side/name`, as in the dataset."""
    history: Ragged | Ranges
    """Item rows of each query row's events, oldest first."""
    query_features: dict[str, FeatureColumn]
    """By name; one row per query row."""
    item_categories: npt.NDArray[np.int32]
    """Category row of each item row, `[items]`."""
    corpus: npt.NDArray[np.int64]
    """Item rows that may be recommended, ascending; a place here is a *position*."""

    @classmethod
    def from_log(cls, log: Log) -> "RequestEncoder":
        """All that is known at the end of `log`: each query's events up to `log.end`."""
        dataset = log.dataset
        return cls(
            schema=dataset.schema,
            space=dataset.space(),
            query_vocabulary=dataset.query_vocabulary,
            item_vocabulary=dataset.item_vocabulary,
            category_vocabulary=dataset.category_vocabulary,
            feature_vocabularies=dataset.feature_vocabularies,
            numeric_scales=dataset.numeric_scales,
            history=Ranges(dataset.items, np.asarray(dataset.offsets[:-1]), log.end),
            query_features=dataset.query_features,
            item_categories=dataset.item_categories,
            corpus=np.asarray(log.corpus, dtype=np.int64),
        )

    def known_queries(self) -> npt.NDArray[np.int64]:
        """Rows of the queries with a history."""
        return np.flatnonzero(self.history.lengths() > 0)

    def batch_of_rows(self, rows: npt.NDArray[np.int64]) -> QueryBatch:
        """Query rows with their stored history and features, and an unknown context."""
        return QueryBatch(
            rows=rows,
            history=self.history.take(rows),
            features={name: column.take(rows) for name, column in self.query_features.items()},
            context=self._encode(None, len(rows), "context"),
        )

    def batch(
        self,
        query_ids: pl.Series,
        *,
        history: Ids | None = None,
        features: Frame | None = None,
        context: Frame | None = None,
    ) -> QueryBatch:
        """Requests as a model sees them.

        Args:
            query_ids: one per request; an unknown id has an empty history and unknown features.
            history: a list of item ids per request, oldest first, instead of the stored events;
                items that training did not know are left out.
            features: one row per request with the query features' columns, instead of the stored
                ones; a column that is missing counts as unknown.
            context: one row per request with the context features' columns.

        Raises:
            DataError: another number of rows than ids, or a value of the wrong type.
        """
        rows = self.query_vocabulary.encode(query_ids).astype(np.int64)
        known = self.batch_of_rows(rows)
        return QueryBatch(
            rows=rows,
            history=known.history if history is None else self._history(history, len(rows)),
            features=(
                known.features if features is None else self._encode(features, len(rows), "query")
            ),
            context=self._encode(context, len(rows), "context"),
        )

    def item_lists(self, lists: pl.Series) -> Ragged:
        """Item rows of lists of item ids; unknown items are left out.

        Args:
            lists: a list of item ids per row (null counts as empty).
        """
        lengths = lists.list.len().fill_null(0).to_numpy()
        items = self.item_vocabulary.encode(lists.filter(lengths > 0).explode())
        row = np.repeat(np.arange(len(lists)), lengths)[items > 0]
        offsets = np.concatenate([[0], np.bincount(row, minlength=len(lists)).cumsum()])
        return Ragged(items[items > 0], offsets.astype(np.int64))

    def positions(self, items: Ragged) -> Ragged:
        """Item rows as positions in the corpus; items outside it are left out."""
        found = self.position_of_row[items.values]
        row = items.row_of_value()[found >= 0]
        offsets = np.concatenate([[0], np.bincount(row, minlength=len(items)).cumsum()])
        return Ragged(found[found >= 0], offsets.astype(np.int64))

    def positions_of_categories(self, categories: pl.Series) -> npt.NDArray[np.int64]:
        """Positions of the corpus's items of any of these categories, ascending.

        Raises:
            DataError: a category that no item has.
        """
        rows = self.category_vocabulary.encode(categories)
        if (rows == 0).any():
            raise DataError(self._unknown_category(categories.filter(rows == 0)[0]))
        return np.flatnonzero(np.isin(self.item_categories[self.corpus], rows))

    @cached_property
    def position_of_row(self) -> npt.NDArray[np.int32]:
        """The place of each item row in the corpus, -1 outside it, `[items]`."""
        position = np.full(self.space.item_count, -1, dtype=np.int32)
        position[self.corpus] = np.arange(len(self.corpus), dtype=np.int32)
        return position

    def _unknown_category(self, category: Any) -> str:
        known = self.category_vocabulary.values.cast(pl.String)
        if known.is_empty():
            return f"category: {category!r} given, but the items were prepared without categories"
        word = str(category)[:_LONGEST_COMPARED]
        names_of: dict[str, list[str]] = {}
        for name in self._likeliest(word):
            names_of.setdefault(name[:_LONGEST_COMPARED], []).append(name)
        found = difflib.get_close_matches(word, list(names_of), n=5, cutoff=0.4)
        near = [name for cut in found for name in names_of[cut]][:5]
        return (
            f"category: {category!r} is not one of the {len(known)} categories; "
            f"near it are {', '.join(near or known.head(5).to_list())}"
        )

    def _likeliest(self, word: str) -> list[str]:
        """The categories that an unknown one may stand for: those that hold it or begin alike."""
        known = self.category_vocabulary.values.cast(pl.String)
        if len(known) > _MOST_COMPARED:
            lower, wanted = known.str.to_lowercase(), word.lower()
            alike = lower.str.contains(wanted, literal=True).cast(pl.Int8)
            for length in (1, 3):
                alike += lower.str.starts_with(wanted[:length]).cast(pl.Int8)
            order = np.argsort(-alike.to_numpy(), kind="stable")
            known = known.gather(order[:_MOST_COMPARED])
        return known.to_list()

    def _history(self, history: Ids, count: int) -> Ragged:
        lists = series(history, "history")
        if lists.dtype == pl.Null:
            lists = lists.cast(pl.List(self.item_vocabulary.values.dtype))
        if not isinstance(lists.dtype, pl.List) or len(lists) != count:
            raise DataError(
                f"history: {len(lists)} rows of type {lists.dtype} for {count} queries; "
                "it should be one list of item ids per query, oldest first"
            )
        return self.item_lists(lists)

    def _encode(self, frame: Frame | None, count: int, side: Side) -> dict[str, FeatureColumn]:
        features: tuple[Feature, ...] = getattr(self.schema, f"{side}_features")
        if frame is None:
            table = pl.DataFrame({"": np.zeros(count, dtype=np.int8)})
        else:
            opened = open_table(frame, f"{side} features")
            table = collect(opened, opened.frame)
            names = [feature.name for feature in features]
            if not set(names) & set(table.columns):
                known = f"they are {', '.join(names)}" if names else "the model has none"
                raise DataError(
                    f"{side} features: none is among the columns {', '.join(table.columns)}; "
                    + known
                )
            if len(table) != count:
                raise DataError(f"{side} features: {len(table)} rows for {count} queries")
        return encode_features(
            table,
            features,
            side,
            self.feature_vocabularies,
            self.numeric_scales,
            self.item_vocabulary,
            sizes={
                f"{side}/{spec.name}": spec.size
                for spec in getattr(self.space, f"{side}_features")
                if spec.kind == FeatureKind.VECTOR
            },
        )


def series(values: Ids, what: str) -> pl.Series:
    """Ids, or lists of ids, as a Polars series.

    Raises:
        ConfigError: one id instead of a list of them.
        DataError: values of several types.
    """
    if isinstance(values, str | bytes | int | float):
        raise ConfigError(f"{what}: {values!r} is one value; give a list: [{values!r}]")
    try:
        found = pl.Series(what, values)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{what}: the values are not all of one type ({error})") from None
    return found.arr.to_list() if isinstance(found.dtype, pl.Array) else found
