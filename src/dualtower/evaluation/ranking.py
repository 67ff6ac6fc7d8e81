"""The rank of every target among the whole corpus: no sampled candidates, ties count as half."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualtower.data.dataset import Log
from dualtower.errors import DataError, NotFittedError
from dualtower.evaluation.pairs import Pairs, distinct_pairs
from dualtower.evaluation.score_ranking import ScoreRanker
from dualtower.evaluation.vector_ranking import VectorRanker
from dualtower.models.base import Model, VectorModel
from dualtower.progress import progress_bar


@dataclass(frozen=True)
class Ranking:
    """Where each query's targets stand in the full ranking of the corpus."""

    queries: npt.NDArray[np.int64]
    """Query rows with at least one target that could be recommended or is outside the corpus,
    `[queries]`."""
    query: npt.NDArray[np.int64]
    """Position in `queries` of each target, ascending, `[targets]`."""
    items: npt.NDArray[np.int64]
    """Item row of each target, distinct within a query, `[targets]`."""
    ranks: npt.NDArray[np.float64]
    """Rank of each target from 1, `[targets]`: 1 + better candidates + half the equal ones;
    infinity for a target outside the corpus."""
    top: npt.NDArray[np.int64]
    """Item rows of each query's best candidates, best first, `[queries, top]`; 0 where the corpus
    has no more."""
    outside_corpus: int
    """How many targets are outside the corpus."""
    seen_targets: int
    """How many targets were dropped because an earlier event of the query already named them."""
    dropped_queries: int
    """How many queries were dropped because all their targets were."""


def rank_targets(
    model: Model,
    log: Log,
    rows: npt.NDArray[np.int64],
    *,
    exclude_seen: bool = True,
    same_time_history: bool = False,
    top: int = 0,
    progress: bool = True,
) -> Ranking:
    """Rank the targets of `log` among its whole corpus.

    Every distinct target of a query is ranked with the query's other targets still among the
    candidates. The cost is one product of query and item vectors per target, in tiles that stay in
    cache; memory does not grow with queries times items.

    Args:
        model: fitted on the same dataset.
        log: the view whose targets are ranked, with the corpus.
        rows: query rows with at least one target, `[queries]`.
        exclude_seen: leave the items that stand before a query's targets out of its ranking. A
            target among them cannot be recommended then; it is dropped and counted.
        same_time_history: whether the model is told of events of the first target's very time
            (`Log.requests`).
        top: how many of each query's best candidates to keep.
        progress: show a progress bar.

    Raises:
        NotFittedError: the model was not trained.
        DataError: the model was fitted for another number of items, the corpus is empty, or a
            score is NaN.
    """
    item_count = log.dataset.item_count
    _check(model, log)
    ranker: VectorRanker | ScoreRanker
    if isinstance(model, VectorModel):
        ranker = VectorRanker(model, log.corpus)
    else:
        ranker = ScoreRanker(model, log.corpus, item_count)
    column_of_item = np.full(item_count, -1, dtype=np.int64)
    column_of_item[log.corpus] = np.arange(len(log.corpus))
    item_of_column = np.append(log.corpus, 0)  # column -1, no more candidates, becomes row 0

    found = []
    with progress_bar(f"Ranking by {model.name}", len(rows), "queries", shown=progress) as bar:
        for start in range(0, len(rows), ranker.queries_per_block):
            block = rows[start : start + ranker.queries_per_block]
            batch = log.requests(block, same_time_history=same_time_history)
            query, items = distinct_pairs(log.targets(block), item_count)
            seen_query, seen_items = distinct_pairs(log.past(block), item_count)
            if not exclude_seen:
                seen_query, seen_items = seen_query[:0], seen_items[:0]
            repeated = np.isin(
                query * item_count + items, seen_query * item_count + seen_items, assume_unique=True
            )
            query, items = query[~repeated], items[~repeated]

            kept = np.flatnonzero(np.bincount(query, minlength=len(block)))
            columns = column_of_item[items]
            inside, seen_inside = columns >= 0, column_of_item[seen_items] >= 0
            seen = Pairs(seen_query[seen_inside], column_of_item[seen_items[seen_inside]])
            prepared = ranker.prepare(batch)
            ranks = np.full(len(items), np.inf)
            ranks[inside] = ranker.rank(prepared, Pairs(query[inside], columns[inside]), seen)
            best = item_of_column[ranker.top(prepared, seen, top)[kept]] if top else None
            found.append(
                Ranking(
                    queries=block[kept],
                    query=np.searchsorted(kept, query),
                    items=items,
                    ranks=ranks,
                    top=np.empty((len(kept), 0), dtype=np.int64) if best is None else best,
                    outside_corpus=int((~inside).sum()),
                    seen_targets=int(repeated.sum()),
                    dropped_queries=len(block) - len(kept),
                )
            )
            bar.advance(len(block))
    return _joined(found, top)


def _check(model: Model, log: Log) -> None:
    if not model.fitted:
        raise NotFittedError(f"model {model.name} was not trained: call dualtower.fit first")
    if len(log.corpus) == 0:
        raise DataError("the log's corpus is empty: there is no item that could be recommended")
    if model.space is not None and model.space.item_count != log.dataset.item_count:
        raise DataError(
            f"model {model.name} was fitted for {model.space.item_count:,} item rows, the log's "
            f"dataset has {log.dataset.item_count:,}: evaluate on the dataset it was fitted on"
        )


def _joined(parts: list[Ranking], top: int) -> Ranking:
    empty = np.empty(0, dtype=np.int64)
    first_query = np.cumsum([0, *(len(part.queries) for part in parts)])
    shifted = [part.query + first for part, first in zip(parts, first_query, strict=False)]
    return Ranking(
        queries=np.concatenate([empty, *(part.queries for part in parts)]),
        query=np.concatenate([empty, *shifted]),
        items=np.concatenate([empty, *(part.items for part in parts)]),
        ranks=np.concatenate([np.empty(0), *(part.ranks for part in parts)]),
        top=np.concatenate([np.empty((0, top), np.int64), *(part.top for part in parts)]),
        outside_corpus=sum(part.outside_corpus for part in parts),
        seen_targets=sum(part.seen_targets for part in parts),
        dropped_queries=sum(part.dropped_queries for part in parts),
    )
