"""Dividing a dataset's events into training, validation and test views."""

from datetime import date, datetime

import numpy as np
import numpy.typing as npt

from dualtower.config import SplitConfig
from dualtower.data.arrays import query_chunks
from dualtower.data.dataset import Dataset, Log, Split
from dualtower.data.times import parse_time, show_time
from dualtower.errors import ConfigError, DataError

DAY = 86_400_000_000
"""A day in microseconds."""
MOST_DAYS = 100_000
"""A longer period is a mistake."""
Time = str | date | datetime


def split(dataset: Dataset, config: SplitConfig) -> Split:
    """The split that the configuration names.

    Raises:
        DataError: the dataset lacks what the split needs, or a part would be empty.
        ConfigError: settings of the split are missing or contradict each other.
    """
    if config.by == "time":
        return split_by_time(
            dataset,
            config.test_start,
            config.validation_start,
            test_days=config.test_days,
            validation_days=config.validation_days,
        )
    if config.by == "column":
        return split_by_column(dataset, config.validation_share)
    return leave_last_out(dataset)


def leave_last_out(dataset: Dataset, min_events: int = 3) -> Split:
    """Each query's last event is for test, the last but one for validation, the rest for training.

    The corpus is all items.

    Args:
        dataset: the dataset.
        min_events: queries with fewer events are in training only; at least 3, so that every
            tested query has an event in training.

    Raises:
        ConfigError: `min_events` is below 3.
        DataError: the dataset has a split column, or no query has that many events.
    """
    if min_events < 3:
        raise ConfigError(f"min_events is {min_events}; leave-last-out needs at least 3")
    if dataset.split is not None:
        raise DataError(
            "the events are ordered by the split column first, so a query's last one need not be "
            "its latest; split by column, or leave out columns.split to leave the last out"
        )
    tested = np.diff(dataset.offsets) >= min_events
    if not tested.any():
        raise DataError(
            f"no query has {min_events} events or more, so leave-last-out has nothing to test; "
            "split by time instead, or check that columns.query_id is the right column"
        )
    end = np.asarray(dataset.offsets[1:])
    corpus = all_items(dataset)
    return _split(dataset, end - 2 * tested, end - tested, corpus, corpus)


def split_by_time(
    dataset: Dataset,
    test_start: Time | None = None,
    validation_start: Time | None = None,
    *,
    test_days: int | None = None,
    validation_days: int | None = None,
) -> Split:
    """Train on what came before, test on what came after (the paper's Meituan protocol).

    Days are whole days in UTC, the last being that of the latest event. A view's corpus is the
    items seen before its period (of training: in it), so that the final fit and the test have those
    of the validation period too.

    Args:
        dataset: a dataset ordered by timestamp.
        test_start: date or time (UTC unless it has a zone) at which the test period begins.
        validation_start: where the validation period begins; without it there is no validation.
        test_days: instead of `test_start`, how many last days are for test.
        validation_days: instead of `validation_start`, how many days before the test.

    Raises:
        ConfigError: neither or both of `test_start` and `test_days` are given, a number of days is
            out of range, or the validation period does not begin before the test.
        DataError: the dataset has no times, or the training or a named period has no events; the
            message says which times exist.
    """
    if dataset.times is None:
        raise DataError(
            "this dataset has no timestamps, so it cannot be split by time; name "
            "columns.timestamp, or split by leave_last_out or a column"
        )
    latest = int(dataset.times.max())
    test = _period_start("test", test_start, test_days, latest - latest % DAY + DAY)
    if test is None:
        raise ConfigError("a split by time needs test_start or test_days")
    validation = _period_start("validation", validation_start, validation_days, test)
    if validation is None:
        validation = test
    elif validation >= test:
        raise ConfigError(
            f"validation begins at {show_time(validation)}, the test at {show_time(test)}; "
            "validation must begin before the test"
        )
    validation_from, test_from = _first_at_or_after(dataset, (validation, test))
    corpus = _items_between(dataset, np.asarray(dataset.offsets[:-1]), validation_from)
    test_corpus = np.union1d(corpus, _items_between(dataset, validation_from, test_from))
    parts = _split(dataset, validation_from, test_from, corpus, test_corpus)
    bounds = f"the events are from {show_time(int(dataset.times.min()))} to {show_time(latest)}"
    periods = {"test": (parts.test, test)}
    if validation < test:
        periods["validation"] = (parts.validation, validation)
    for name, (log, start) in periods.items():
        if log.event_count == 0:
            raise DataError(f"no events in the {name} period from {show_time(start)}; {bounds}")
    if parts.train.event_count == 0:
        raise DataError(f"no events before {show_time(validation)} to train on; {bounds}")
    return parts


def split_by_column(dataset: Dataset, validation_share: float | None = None) -> Split:
    """The split that the schema's split column gives. The corpus is all items.

    Args:
        dataset: a dataset with a split column.
        validation_share: where the column marks no validation, this share of each query's training
            events, the last ones, is for validation: rounded up, but never all of them.

    Raises:
        DataError: the schema names no split column, or it leaves training or test empty, or it
            marks validation events and a share is given as well.
        ConfigError: the share is not between 0 and 1.
    """
    if dataset.split is None:
        raise DataError(
            "this dataset has no split column; name columns.split, or split by leave_last_out "
            "or time"
        )
    validation_from = dataset.offsets[:-1] + _count_below(dataset, dataset.split, 1)
    test_from = dataset.offsets[:-1] + _count_below(dataset, dataset.split, 2)
    if validation_share is not None:
        if not 0 < validation_share < 1:
            raise ConfigError(f"validation_share: {validation_share} given; it is between 0 and 1")
        if (validation_from < test_from).any():
            raise DataError(
                f"column {dataset.schema.split!r} marks validation events itself; leave "
                "split.validation_share out"
            )
        train = validation_from - dataset.offsets[:-1]
        held = np.ceil(validation_share * train).astype(np.int64)
        validation_from = validation_from - np.minimum(held, np.maximum(train - 1, 0))
    corpus = all_items(dataset)
    parts = _split(dataset, validation_from, test_from, corpus, corpus)
    for name, log in (("train", parts.train), ("test", parts.test)):
        if log.event_count == 0:
            raise DataError(f"column {dataset.schema.split!r} marks no event as {name}")
    return parts


def all_items(dataset: Dataset) -> npt.NDArray[np.int64]:
    """All item rows but the unknown's."""
    return np.arange(1, dataset.item_count, dtype=np.int64)


def _split(
    dataset: Dataset,
    validation_from: npt.NDArray[np.int64],
    test_from: npt.NDArray[np.int64],
    corpus: npt.NDArray[np.int64],
    test_corpus: npt.NDArray[np.int64],
) -> Split:
    start, end = np.asarray(dataset.offsets[:-1]), np.asarray(dataset.offsets[1:])
    return Split(
        Log(dataset, start, validation_from, corpus),
        Log(dataset, validation_from, test_from, corpus),
        Log(dataset, test_from, end, test_corpus),
    )


def _period_start(name: str, start: Time | None, days: int | None, end: int) -> int | None:
    if start is not None and days is not None:
        raise ConfigError(f"give {name}_start or {name}_days, not both")
    if start is not None:
        return parse_time(start, f"{name}_start")
    if days is None:
        return None
    if not 1 <= days <= MOST_DAYS:
        raise ConfigError(f"{name}_days: {days} given; it should be from 1 to {MOST_DAYS:,}")
    return end - days * DAY


def _first_at_or_after(
    dataset: Dataset, times: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Position of each query's first event at or after each time."""
    events = dataset.times
    if events is None:
        raise DataError("this dataset has no timestamps")
    if dataset.split is not None:
        for first, last in query_chunks(dataset.offsets):
            piece = events[dataset.offsets[first] : dataset.offsets[last]]
            later = np.diff(piece) < 0
            later[dataset.offsets[first + 1 : last] - dataset.offsets[first] - 1] = False
            if later.any():
                raise DataError(
                    "the events are ordered by the split column first and not by time; leave out "
                    "columns.split to split by time"
                )
    first_at, second_at = (
        dataset.offsets[:-1] + _count_below(dataset, events, time) for time in times
    )
    return first_at, second_at


def _count_below(
    dataset: Dataset, values: npt.NDArray[np.integer], limit: int
) -> npt.NDArray[np.int64]:
    """How many of each query's events have a value below `limit`, `[queries]`."""
    counts = np.zeros(dataset.query_count, dtype=np.int64)
    for first, last in query_chunks(dataset.offsets):
        offsets = dataset.offsets[first : last + 1] - dataset.offsets[first]
        below = values[dataset.offsets[first] : dataset.offsets[last]] < limit
        total = np.concatenate([[0], np.cumsum(below)])
        counts[first:last] = total[offsets[1:]] - total[offsets[:-1]]
    return counts


def _items_between(
    dataset: Dataset, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    log = Log(dataset, start, end, all_items(dataset))
    return np.flatnonzero(log.item_counts())
