"""Windows of logs: one history serves all the targets that follow it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import FeatureColumn, Positions, Ragged, positions_in
from dualtower.data.dataset import Log
from dualtower.data.sorting import scrambled

_WINDOW_SHARE = 4
"""One in so many events, rounded up, are targets of one window where a log has no order: a target
sees all events but some of these. Shorter windows show it more and cost more (docs/recipe.md)."""
_LONG = 1_000
"""A window that a huge basket makes longer than this holds only what its targets may see."""


@dataclass(frozen=True)
class Batch:
    """Some windows, padded on the right to one length, and the targets in them."""

    queries: npt.NDArray[np.int64]
    """Query row of each window, `[windows]`."""
    items: npt.NDArray[np.int64]
    """Item rows of the window's events, oldest first, 0 behind the last, `[windows, length]`; of a
    very long window only the events that a target may see."""
    earlier: Ragged
    """Item rows of the query's events before the window, oldest first, per window; none where the
    model does not read them."""
    window: npt.NDArray[np.int64]
    """The window of each target, `[targets]`."""
    known: npt.NDArray[np.int64]
    """How many of the window's events each target may see as its history, `[targets]`: those
    before it, of an earlier time where times are known."""
    targets: npt.NDArray[np.int64]
    """Item row of each target, `[targets]`."""
    fold: int
    """The fold that all the windows' queries belong to."""
    query_features: dict[str, FeatureColumn]
    """By name, one row per window."""
    context: dict[str, FeatureColumn]
    """By name, one row per target."""
    weights: npt.NDArray[np.float32] | None = None
    """Weight of each target in the loss, `[targets]`; None: all count the same."""


class Windows:
    """Cuts the logs of a view into windows and deals them out in batches of one fold each.

    A window holds up to `target_length` consecutive targets of one query and, before them, up to
    `history_length` earlier events. A query's windows are all in one fold, drawn once, so that
    what a fold's queries contributed to an item can be left out as a whole. Events of the very same
    time (one basket) have no order: unless `same_time_history`, they are not one another's history,
    as they will not be when a next basket is asked for. One epoch reads every event once as a
    target, and (history_length / target_length) times more as history (without an order up to four
    times in all).

    A log without an order gets another one each epoch, and goes round: all other events stand
    before a window's targets, which are then about a quarter of the log at most. So an event is
    predicted from nearly as many others as there are when the next one is asked for.
    """

    def __init__(
        self,
        log: Log,
        *,
        history_length: int,
        target_length: int,
        batch_size: int,
        folds: int,
        seed: int,
        same_time_history: bool = False,
        read_earlier: bool = True,
    ) -> None:
        """Cut the windows.

        Args:
            log: the view whose events are the targets.
            history_length: how many events before its first target a window holds.
            target_length: how many targets it holds.
            batch_size: about so many targets make a batch.
            folds: how many folds the queries are dealt into.
            seed: decides each query's fold.
            same_time_history: whether events of one time may be one another's history.
            read_earlier: whether batches hold the events before each window; a model that does
                not read them is spared a read of the whole past for every window.
        """
        self._log = log
        self._times = None if same_time_history else log.dataset.times
        self._history_length = history_length
        self._batch_size = batch_size
        self._folds = folds
        self._read_earlier = read_earlier
        queries = log.queries()
        lengths = log.end[queries] - log.start[queries]
        longest = np.full_like(lengths, target_length)
        if log.dataset.schema.unordered:
            longest = np.minimum(longest, -(-lengths // _WINDOW_SHARE))
        pieces = -(-lengths // longest)
        self._queries = np.repeat(queries, pieces)
        first = np.cumsum(pieces) - pieces
        number = np.arange(len(self._queries)) - np.repeat(first, pieces)
        longest = np.repeat(longest, pieces)
        self._start = log.start[self._queries] + number * longest
        self._end = np.minimum(self._start + longest, log.end[self._queries])
        rng = np.random.default_rng(seed)
        self._fold = rng.integers(folds, size=log.dataset.query_count)[self._queries]

    @property
    def event_count(self) -> int:
        """Targets in one epoch."""
        return int((self._end - self._start).sum())

    def step_count(self) -> int:
        """Batches in one epoch, the same in every epoch to within a few."""
        return len(self._chunks(np.random.default_rng(0)))

    def epoch(self, seed: int) -> Iterator[Batch]:
        """All windows once, in an order drawn from `seed`, in batches of about `batch_size`.

        Args:
            seed: from 0, below 2³².
        """
        rng = np.random.default_rng(seed)
        chunks = self._chunks(rng)
        for index in rng.permutation(len(chunks)):
            fold, windows = chunks[index]
            yield self._batch(fold, windows, seed)

    def _chunks(self, rng: np.random.Generator) -> list[tuple[int, npt.NDArray[np.int64]]]:
        chunks: list[tuple[int, npt.NDArray[np.int64]]] = []
        for fold in range(self._folds):
            members = rng.permutation(np.flatnonzero(self._fold == fold))
            if len(members) == 0:
                continue
            before = np.cumsum((self._end - self._start)[members]) - 1
            cuts = np.flatnonzero(np.diff(before // self._batch_size)) + 1
            chunks.extend((fold, chunk) for chunk in np.split(members, cuts))
        return chunks

    def _batch(self, fold: int, windows: npt.NDArray[np.int64], seed: int) -> Batch:
        dataset = self._log.dataset
        queries = self._queries[windows]
        start, end, events_at = self._placed(windows, seed)

        def items_in(start: Positions, end: Positions) -> Ragged:
            places, offsets = positions_in(start, end)
            return Ragged(np.asarray(dataset.items[events_at(places, offsets)]), offsets)

        log_start = dataset.offsets[queries]
        begin = self._begin(log_start, start)
        window = np.repeat(np.arange(len(windows)), end - start)
        places, offsets = positions_in(start, end)
        event = events_at(places, offsets)
        known = self._known(window, places - begin[window], begin, end)
        lengths = end - begin
        if lengths.max() > _LONG:
            seen = np.ones_like(lengths)
            np.maximum.at(seen, window, known)
            lengths = np.where(lengths > _LONG, seen, lengths)
        items = np.zeros((len(windows), int(lengths.max())), dtype=np.int64)
        items[np.arange(items.shape[1]) < lengths[:, None]] = items_in(
            begin, begin + lengths
        ).values
        return Batch(
            queries=queries,
            items=items,
            earlier=items_in(log_start if self._read_earlier else begin, begin),
            window=window,
            known=known,
            targets=dataset.items[event].astype(np.int64),
            fold=fold,
            query_features={n: c.take(queries) for n, c in dataset.query_features.items()},
            context={n: c.take(event) for n, c in dataset.context_features.items()},
            weights=None if dataset.weights is None else np.asarray(dataset.weights[event]),
        )

    def _placed(
        self, windows: Positions, seed: int
    ) -> tuple[Positions, Positions, Callable[[Positions, Positions], Positions]]:
        """Where each window's targets stand, and which events are at some positions of each.

        Where they are in the log, but for the view's events of a log without an order. Those
        change places, the same way in all of the epoch's batches, and go round until the window's
        targets are the last: all others are before them. Sorts the whole logs of the batch's
        queries: a log that has windows in many batches is sorted for each of them.
        """
        start, end = self._start[windows], self._end[windows]
        if not self._log.dataset.schema.unordered:
            return start, end, lambda positions, _: positions
        queries = self._queries[windows]
        rows = np.unique(queries)
        places, offsets = positions_in(self._log.start[rows], self._log.end[rows])
        row = np.repeat(np.arange(len(rows)), np.diff(offsets))
        drawn = places[np.lexsort((scrambled(places ^ np.int64(seed << 31)), row))]
        first, stop = self._log.start[queries], self._log.end[queries]
        base = offsets[np.searchsorted(rows, queries)]

        def events_at(positions: Positions, offsets: Positions) -> Positions:
            window = np.repeat(np.arange(len(windows)), np.diff(offsets))
            place = positions - first[window]
            turned = (place + (end - first)[window]) % (stop - first)[window]
            found = drawn[base[window] + turned]
            return np.where(place >= 0, found, positions)

        return stop - (end - start), stop, events_at

    def _begin(
        self, log_start: npt.NDArray[np.int64], start: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Where each window begins: `history_length` events before its first target.

        Counted from the first event of that target's time, and never between two of one time: what
        stands before a window is history of all its targets.
        """
        if self._times is None:
            return np.maximum(log_start, start - self._history_length)
        first = _first_of_its_time(self._times, log_start, start)
        begin = np.maximum(log_start, first - self._history_length)
        return _first_of_its_time(self._times, log_start, begin)

    def _known(
        self,
        window: npt.NDArray[np.int64],
        position: npt.NDArray[np.int64],
        begin: npt.NDArray[np.int64],
        end: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.int64]:
        """How many of its window's events each target may see: none of its own time.

        Args:
            window: the window of each target, `[targets]`.
            position: its place in that window, `[targets]`.
            begin: where each window begins in the dataset, `[windows]`.
            end: where it ends, `[windows]`.
        """
        if self._times is None:
            return position
        positions, offsets = positions_in(begin, end)
        times, place = self._times[positions], np.arange(len(positions))
        is_first = np.ones(len(times), dtype=bool)
        is_first[1:] = times[1:] != times[:-1]
        is_first[offsets[:-1]] = True
        first_of_its_time = np.maximum.accumulate(np.where(is_first, place, 0))
        known: npt.NDArray[np.int64] = first_of_its_time[offsets[window] + position]
        return known - offsets[window]


def _first_of_its_time(
    times: npt.NDArray[np.int64], low: npt.NDArray[np.int64], position: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The first event from `low` on that has the time of the one at `position`, by bisection."""
    low, high, time = low.copy(), position.copy(), times[position]
    while (low < high).any():
        middle = (low + high) // 2
        reached = times[middle] == time
        high = np.where(reached, middle, high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    return high
