"""The encoded dataset: ordered logs as flat arrays, features, vocabularies; and views of it."""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dualtower.data.arrays import query_chunks
from dualtower.data.columns import (
    FeatureColumn,
    FeatureSpace,
    FeatureSpec,
    QueryBatch,
    Ragged,
    take_ranges,
)
from dualtower.data.vocabulary import Vocabulary
from dualtower.schema import FeatureKind, Schema

if TYPE_CHECKING:
    from dualtower.config import FilterConfig


@dataclass(frozen=True)
class Dataset:
    """Every query's events in order, encoded. Arrays may be memory-mapped files.

    The events of query row q are at positions `offsets[q]:offsets[q + 1]` of the event arrays,
    oldest first. Row 0 of every vocabulary is the unknown; query row 0 has no events.
    """

    schema: Schema
    query_vocabulary: Vocabulary
    item_vocabulary: Vocabulary
    category_vocabulary: Vocabulary
    feature_vocabularies: dict[str, Vocabulary]
    """Vocabularies of categorical and multi-valued features, by `side/name`, side one of
    query, item, context."""
    numeric_scales: dict[str, tuple[float, float]]
    """Mean and standard deviation by which a numeric feature was standardised, by `side/name`."""
    offsets: npt.NDArray[np.int64]
    """`[queries + 1]` with the unknown row: where each query's events begin."""
    items: npt.NDArray[np.int32]
    """Item row of each event, `[events]`, never 0."""
    times: npt.NDArray[np.int64] | None
    """Microseconds since 1970 (UTC) of each event, when the log is ordered by timestamp."""
    weights: npt.NDArray[np.float32] | None
    """Weight of each event in the training loss, when the schema names a weight column."""
    split: npt.NDArray[np.int8] | None
    """0 train, 1 validation, 2 test of each event, when the schema names a split column; within a
    query never falling."""
    item_categories: npt.NDArray[np.int32]
    """Category row of each item row, `[items]`; 0 is unknown."""
    query_features: dict[str, FeatureColumn]
    """By name; one row per query row."""
    item_features: dict[str, FeatureColumn]
    """By name; one row per item row."""
    context_features: dict[str, FeatureColumn]
    """By name; one row per event."""
    source: dict[str, Any]
    """Where it came from: files with their SHA-256, row counts read, dropped and why."""

    @classmethod
    def from_frames(
        cls,
        interactions: Any,
        items: Any = None,
        queries: Any = None,
        schema: Schema | None = None,
        filter: "FilterConfig | None" = None,
    ) -> "Dataset":
        """The dataset of tables in memory (or of files), held in memory.

        What is left out or guessed is said in one line each on standard error.

        Args:
            interactions: who did what: a pandas, Polars or Arrow table, or a path.
            items: the items table, if any.
            queries: the queries table, if any.
            schema: the column names; by default `user_id`, `item_id`, and where such columns
                exist `timestamp` or `datetime` (else `position`), `weight`, and the items'
                `category`.
            filter: which events are kept; all by default.

        Raises:
            DataError: a table is not as it should be; the message names column, row and remedy.
        """
        from dualtower.data import prepare

        return prepare.from_frames(interactions, items, queries, schema, filter)

    @classmethod
    def load(cls, path: str | Path) -> "Dataset":
        """Open, memory-mapped, what `prepare` or `save` wrote.

        Raises:
            BundleError: no such dataset, damaged, or of another version.
        """
        from dualtower.data import storage

        return storage.load(path)

    def save(self, path: str | Path) -> None:
        """Write the dataset into folder `path`, in place of what is there."""
        from dualtower.data import storage

        storage.save(self, path)

    def leave_last_out(self, min_events: int = 3) -> "Split":
        """Each query's last event for test, the last but one for validation.

        See `splits.leave_last_out`.
        """
        from dualtower.data import splits

        return splits.leave_last_out(self, min_events)

    def by_time(
        self,
        test_start: str | date | datetime | None = None,
        validation_start: str | date | datetime | None = None,
        *,
        test_days: int | None = None,
        validation_days: int | None = None,
    ) -> "Split":
        """The last days for test, the days before for validation; see `splits.split_by_time`."""
        from dualtower.data import splits

        return splits.split_by_time(
            self,
            test_start,
            validation_start,
            test_days=test_days,
            validation_days=validation_days,
        )

    def by_column(self) -> "Split":
        """The parts that the schema's split column names; see `splits.split_by_column`."""
        from dualtower.data import splits

        return splits.split_by_column(self)

    @property
    def query_count(self) -> int:
        """Rows of the query vocabulary, the unknown included."""
        return len(self.offsets) - 1

    @property
    def item_count(self) -> int:
        """Rows of the item vocabulary, the unknown included."""
        return len(self.item_categories)

    @property
    def event_count(self) -> int:
        """Number of events."""
        return len(self.items)

    def space(self) -> FeatureSpace:
        """The sizes that a model is built from."""
        return FeatureSpace(
            query_count=self.query_count,
            item_count=self.item_count,
            category_count=len(self.category_vocabulary),
            query_features=self._specs("query", self.query_features),
            item_features=self._specs("item", self.item_features),
            context_features=self._specs("context", self.context_features),
        )

    def everything(self) -> "Log":
        """All events as one view, for a fit on all that is known."""
        return Log(self, self.offsets[:-1], self.offsets[1:], np.arange(1, self.item_count))

    def _specs(self, side: str, columns: dict[str, FeatureColumn]) -> tuple[FeatureSpec, ...]:
        def size(column: FeatureColumn) -> int:
            kind = column.feature.kind
            if kind in (FeatureKind.CATEGORICAL, FeatureKind.MULTI_VALUED):
                return len(self.feature_vocabularies[f"{side}/{column.feature.name}"])
            if kind == FeatureKind.SEQUENCE:
                return self.item_count
            return column.values.shape[1] if kind == FeatureKind.VECTOR else 1

        return tuple(
            FeatureSpec(name, column.feature.kind, size(column)) for name, column in columns.items()
        )


@dataclass(frozen=True)
class Log:
    """A view of a dataset: for every query, the target events in `[start, end)`.

    What stands before a target in the query's log, inside the view or before it, is its history:
    a test view's targets have the training events as history.
    """

    dataset: Dataset
    start: npt.NDArray[np.int64]
    """`[queries]`: position of the first target event of each query row."""
    end: npt.NDArray[np.int64]
    """`[queries]`: one past the last target event."""
    corpus: npt.NDArray[np.int64]
    """Item rows that may be recommended, ascending, never 0."""

    @property
    def event_count(self) -> int:
        """Number of target events."""
        return int((self.end - self.start).sum())

    def queries(self) -> npt.NDArray[np.int64]:
        """Rows of the queries that have at least one target."""
        return np.flatnonzero(self.end > self.start)

    def requests(
        self, rows: npt.NDArray[np.int64], *, same_time_history: bool = False
    ) -> QueryBatch:
        """The queries as they stood just before their first target in the view.

        Their history is what stands before `start` in their log, without the last of it that is of
        the first target's very time, where times are known. Of an order by time that is what they
        did before that time; a split column may mark events as test that are older than those it
        marks as training, and then these later ones are history too. The context is that of the
        first target.

        Args:
            rows: query rows, `[queries]`, each with at least one target when the dataset has
                context features.
            same_time_history: whether events before `start` of the first target's very time are
                history too.
        """
        dataset = self.dataset
        first = self.start[rows]
        end = first if same_time_history else self._before_its_time(rows)
        return QueryBatch(
            rows=np.asarray(rows, dtype=np.int64),
            history=take_ranges(dataset.items, dataset.offsets[rows], end),
            features={name: column.take(rows) for name, column in dataset.query_features.items()},
            context={name: column.take(first) for name, column in dataset.context_features.items()},
        )

    def past(self, rows: npt.NDArray[np.int64]) -> Ragged:
        """The item rows of all events that stand before each query's targets, in order."""
        return take_ranges(self.dataset.items, self.dataset.offsets[rows], self.start[rows])

    def targets(self, rows: npt.NDArray[np.int64]) -> Ragged:
        """The item rows of each query's target events, in order, repeats included."""
        return take_ranges(self.dataset.items, self.start[rows], self.end[rows])

    def item_counts(self) -> npt.NDArray[np.int64]:
        """How many target events name each item row, `[items]`."""
        counts = np.zeros(self.dataset.item_count, dtype=np.int64)
        for rows in np.array_split(self.queries(), max(1, self.event_count // 4_000_000)):
            counts += np.bincount(self.targets(rows).values, minlength=len(counts))
        return counts

    def _before_its_time(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where the events of each first target's time begin that stand next to it, `[rows]`."""
        times, low, first = self.dataset.times, self.dataset.offsets[rows], self.start[rows]
        if times is None:
            return first
        first = np.array(first)
        open_ones = np.flatnonzero((first > low) & (self.end[rows] > first))
        time = times[first[open_ones]]
        while len(open_ones):
            same = times[first[open_ones] - 1] == time
            open_ones, time = open_ones[same], time[same]
            first[open_ones] -= 1
            inside = first[open_ones] > low[open_ones]
            open_ones, time = open_ones[inside], time[inside]
        return first

    def has_weight(self) -> bool:
        """Whether any target event has a weight above 0; without a weight column all have."""
        weights, offsets = self.dataset.weights, self.dataset.offsets
        if weights is None:
            return self.event_count > 0
        for first, last in query_chunks(offsets):
            positive = weights[offsets[first] : offsets[last]] > 0
            before = np.concatenate([[0], np.cumsum(positive)])
            start, end = (part[first:last] - offsets[first] for part in (self.start, self.end))
            if (before[end] > before[start]).any():
                return True
        return False


@dataclass(frozen=True)
class Split:
    """Training, validation and test views of one dataset; each query's events in that order."""

    train: Log
    validation: Log
    test: Log

    @property
    def train_and_validation(self) -> Log:
        """Training and validation events together, for the final fit; the corpus is the test's."""
        return Log(self.train.dataset, self.train.start, self.validation.end, self.test.corpus)
