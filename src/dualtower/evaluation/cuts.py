"""Ranks of single events, each with the history as it stood then: what live serving would show.

`evaluate` asks once per query, before its first target; here every target is asked for by itself.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dualtower.data.columns import Positions, QueryBatch, positions_in, take_ranges
from dualtower.data.dataset import Dataset
from dualtower.evaluation.pairs import Pairs, distinct_pairs
from dualtower.evaluation.score_ranking import ScoreRanker
from dualtower.evaluation.vector_ranking import VectorRanker
from dualtower.models.base import Model, VectorModel
from dualtower.progress import progress_bar


@dataclass(frozen=True)
class Cuts:
    """Targets, and for each how much of its query's log is known; all are places in the log."""

    queries: Positions
    """Query row of each target, ascending, `[targets]`."""
    targets: Positions
    """Place of the target event, `[targets]`."""
    known: Positions
    """The model sees the query's events before this place, `[targets]`."""
    seen: Positions
    """Items of the query's events before this place are not recommended, `[targets]`."""

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, chosen: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Cuts":
        """The targets at these positions."""
        return Cuts(
            self.queries[chosen], self.targets[chosen], self.known[chosen], self.seen[chosen]
        )

    def knowing(self, known: Positions, seen: Positions | None = None) -> "Cuts":
        """The same targets with another past."""
        return replace(self, known=known, seen=self.seen if seen is None else seen)

    def batch(self, dataset: Dataset) -> QueryBatch:
        """A request for each target, with the target's context."""
        return QueryBatch(
            rows=self.queries,
            history=take_ranges(dataset.items, dataset.offsets[self.queries], self.known),
            features={
                name: column.take(self.queries) for name, column in dataset.query_features.items()
            },
            context={
                name: column.take(self.targets) for name, column in dataset.context_features.items()
            },
        )


def every_event(
    dataset: Dataset, start: Positions, end: Positions, *, same_time_history: bool = False
) -> Cuts:
    """Every event of a period as a target, with all that its query did before it.

    Args:
        dataset: the logs.
        start: where each query's period begins, `[queries]`.
        end: one past its end, `[queries]`.
        same_time_history: whether the model is told of events of the target's very time, which a
            basket's items are for one another. They are left out of the ranking in any case.
    """
    queries = np.repeat(np.arange(len(start)), end - start)
    targets, _ = positions_in(start, end)
    known = targets if same_time_history else time_starts(dataset)[targets]
    return Cuts(queries, targets, known, targets)


def time_starts(dataset: Dataset) -> Positions:
    """For every event, where its query's events of the very same time begin, `[events]`."""
    places = np.arange(dataset.event_count)
    if dataset.times is None:
        return places
    begins = np.ones(dataset.event_count, dtype=np.bool_)
    begins[1:] = np.diff(dataset.times) != 0
    begins[dataset.offsets[:-1][np.diff(dataset.offsets) > 0]] = True
    starts: Positions = np.maximum.accumulate(np.where(begins, places, 0))
    return starts


def unseen(dataset: Dataset, cuts: Cuts) -> npt.NDArray[np.bool_]:
    """Whether each target's item is none of its seen items, `[targets]`."""
    result = np.empty(len(cuts), dtype=np.bool_)
    block = 4096
    for begin in range(0, len(cuts), block):
        part = cuts.take(np.arange(begin, min(begin + block, len(cuts))))
        seen = take_ranges(dataset.items, dataset.offsets[part.queries], part.seen)
        same = seen.values == dataset.items[part.targets][seen.row_of_value()]
        result[begin : begin + block] = (
            np.bincount(seen.row_of_value()[same], minlength=len(part)) == 0
        )
    return result


def rank_cuts(
    model: Model, dataset: Dataset, cuts: Cuts, corpus: Positions, *, progress: bool = True
) -> npt.NDArray[np.float64]:
    """The rank of every target in the full ranking of the corpus less its seen items.

    Args:
        model: fitted on the same dataset.
        dataset: the logs.
        cuts: the targets, none of which is among its seen items.
        corpus: item rows that compete, ascending.
        progress: show a bar.

    Returns:
        `[targets]`, from 1, equal scores counted as half; infinity outside the corpus.

    Raises:
        DataError: a score is NaN.
    """
    ranker: VectorRanker | ScoreRanker
    if isinstance(model, VectorModel):
        ranker = VectorRanker(model, corpus)
    else:
        ranker = ScoreRanker(model, corpus, dataset.item_count)
    column_of_item = np.full(dataset.item_count, -1, dtype=np.int64)
    column_of_item[corpus] = np.arange(len(corpus))
    columns = column_of_item[dataset.items[cuts.targets]]
    ranks = np.full(len(cuts), np.inf)
    inside = np.flatnonzero(columns >= 0)
    with progress_bar(f"Ranking by {model.name}", len(inside), "events", shown=progress) as bar:
        for begin in range(0, len(inside), ranker.queries_per_block):
            chosen = inside[begin : begin + ranker.queries_per_block]
            part = cuts.take(chosen)
            past = take_ranges(dataset.items, dataset.offsets[part.queries], part.seen)
            row, item = distinct_pairs(past, dataset.item_count)
            kept = column_of_item[item] >= 0
            ranks[chosen] = ranker.rank(
                ranker.prepare(part.batch(dataset)),
                Pairs(np.arange(len(part)), columns[chosen]),
                Pairs(row[kept], column_of_item[item[kept]]),
            )
            bar.advance(len(part))
    return ranks
