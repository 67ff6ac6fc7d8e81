"""What the live study replays: the period, queries held out of training, and their next events."""

import numpy as np
import numpy.typing as npt

from dualtower.config import SplitConfig
from dualtower.data.dataset import Dataset, Log, Split
from dualtower.data.splits import split
from dualtower.errors import DataError
from dualtower.evaluation.cuts import Cuts, every_event, time_starts, unseen

Rows = npt.NDArray[np.int64]


def period_of(dataset: Dataset, config: SplitConfig, share: float | None) -> Split:
    """Training and validation before the replayed period, which is the test.

    Args:
        dataset: the logs.
        config: the split, without a share.
        share: of each query's events the last ones, rounded up but never all, are the period; the
            event before them is for validation, where the query has two before the period.

    Raises:
        DataError: the split leaves no test.
    """
    if share is None:
        return split(dataset, config)
    offsets = np.asarray(dataset.offsets, dtype=np.int64)
    begin, end = offsets[:-1], offsets[1:]
    lengths = end - begin
    start = end - np.minimum(np.ceil(share * lengths).astype(np.int64), np.maximum(lengths - 1, 0))
    validation = np.where(start - begin >= 2, start - 1, start)
    corpus = np.flatnonzero(Log(dataset, begin, start, begin).item_counts())
    return Split(
        Log(dataset, begin, validation, corpus),
        Log(dataset, validation, start, corpus),
        Log(dataset, start, end, corpus),
    )


def held_out_queries(dataset: Dataset, share: float, events: int, seed: int) -> Rows:
    """Query rows to hold out: of a random share of all queries those with enough events.

    Args:
        dataset: the logs.
        share: of all queries.
        events: a query needs more than so many.
        seed: of the choice.

    Returns:
        Ascending.

    Raises:
        DataError: there is none.
    """
    rows = np.arange(1, dataset.query_count)
    count = max(1, round(share * len(rows)))
    chosen = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
    long: Rows = chosen[np.diff(dataset.offsets)[chosen] > events]
    if len(long) == 0:
        raise DataError(
            f"live: none of the {count:,} queries held out has more than {events} events; "
            "hold out a larger share, or measure after fewer events"
        )
    return long


def without(parts: Split, held: Rows, kept: int = 0) -> Split:
    """The split with nothing of some queries in it but, in training, their first events.

    Args:
        parts: the split.
        held: the queries' rows.
        kept: how many of each one's events training keeps.
    """
    dataset = parts.train.dataset
    begin = np.asarray(dataset.offsets[:-1], dtype=np.int64)
    cut = np.minimum(begin + kept, np.asarray(dataset.offsets[1:]))

    def limited(log: Log, first: Rows) -> Log:
        start, end = np.array(log.start), np.array(log.end)
        start[held], end[held] = first[held], cut[held]
        return Log(dataset, start, end, log.corpus)

    return Split(limited(parts.train, begin), limited(parts.validation, cut), parts.test)


def next_events(dataset: Dataset, held: Rows, count: int, *, same_time_history: bool) -> Cuts:
    """The next new item of each query after its first `count` events.

    It is the first event that names none of the items before it and, where events have times, is
    later than all of them. A query without one has no target.

    Args:
        dataset: the logs.
        held: query rows, ascending.
        count: how many events are known.
        same_time_history: whether the target may be of the same time as what is known.
    """
    begin, end = np.asarray(dataset.offsets[:-1])[held], np.asarray(dataset.offsets[1:])[held]
    known = np.minimum(begin + count, end)
    bounds = bounds_of(dataset, held, known, end)
    cuts = every_event(dataset, *bounds, same_time_history=True)
    past = known[np.searchsorted(held, cuts.queries)]
    cuts = cuts.knowing(past, past)
    possible = unseen(dataset, cuts)
    if not same_time_history:
        possible &= time_starts(dataset)[cuts.targets] >= past
    cuts = cuts.take(possible)
    _, first = np.unique(cuts.queries, return_index=True)
    return cuts.take(first)


def bounds_of(dataset: Dataset, rows: Rows, start: Rows, end: Rows) -> tuple[Rows, Rows]:
    """`start` and `end` of some rows as bounds for all queries, empty for the others."""
    first = np.zeros(dataset.query_count, dtype=np.int64)
    last = np.zeros(dataset.query_count, dtype=np.int64)
    first[rows], last[rows] = start, end
    return first, last
