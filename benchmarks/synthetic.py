"""A synthetic log of Amazon Books' shape, for benchmarks of speed; its order means nothing."""

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.dataset import Dataset
from dualtower.data.vocabulary import Vocabulary
from dualtower.schema import Schema

QUERIES = 695_513
ITEMS = 243_166
EVENTS = 6_706_125
"""Table 1 of the paper, after its 5-core filter."""


def amazon_books_shape(
    queries: int = QUERIES,
    items: int = ITEMS,
    events: int = EVENTS,
    seed: int = 0,
    tastes: int = 1,
) -> Dataset:
    """An encoded dataset: at least five events a query, items by Zipf's law, ids shuffled.

    Args:
        queries: number of queries, the unknown not counted.
        items: number of items, the unknown not counted.
        events: number of events, at least five a query.
        seed: of all that is drawn.
        tastes: groups of items, which are the items' categories where there are several. A query
            then has two of them, and four events in five are of these, so that training has
            something to find.
    """
    random = np.random.default_rng(seed)
    offsets = np.zeros(queries + 2, dtype=np.int64)
    np.cumsum(_log_lengths(queries, events, random), out=offsets[2:])
    cumulative = np.cumsum(1 / np.arange(1, items + 1, dtype=np.float64))
    rank = np.searchsorted(cumulative, random.random(events) * cumulative[-1])
    if tastes > 1:
        rank = _to_taste(rank, np.diff(offsets[1:]), tastes, items, random)
    row_of_rank = random.permutation(np.arange(1, items + 1, dtype=np.int32))
    item_categories = np.zeros(items + 1, dtype=np.int32)
    if tastes > 1:
        item_categories[row_of_rank] = np.arange(items) % tastes + 1
    return Dataset(
        schema=Schema(),
        query_vocabulary=Vocabulary(pl.Series(np.arange(queries))),
        item_vocabulary=Vocabulary(pl.Series(np.arange(items))),
        category_vocabulary=Vocabulary(
            pl.Series(np.arange(tastes if tastes > 1 else 0, dtype=np.int64))
        ),
        feature_vocabularies={},
        numeric_scales={},
        offsets=offsets,
        items=row_of_rank[rank],
        times=None,
        weights=None,
        split=None,
        item_categories=item_categories,
        query_features={},
        item_features={},
        context_features={},
        source={"synthetic": "Amazon Books' shape", "seed": seed},
    )


def _to_taste(
    rank: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    tastes: int,
    items: int,
    random: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Most events moved to an item of about the same rank that is of the query's taste."""
    own = random.integers(0, tastes, (len(lengths), 2))
    query = np.repeat(np.arange(len(lengths)), lengths)
    taste = own[query, random.integers(0, 2, len(query))]
    moved = np.minimum(rank - rank % tastes + taste, items - 1)
    result: npt.NDArray[np.int64] = np.where(random.random(len(query)) < 0.8, moved, rank)
    return result


def _log_lengths(queries: int, events: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Five events each, and the rest shared out with a long tail."""
    share = random.pareto(2.0, queries)
    extra = np.floor(share / share.sum() * (events - 5 * queries)).astype(np.int64)
    missing = events - 5 * queries - int(extra.sum())
    extra[random.choice(queries, missing, replace=False)] += 1
    lengths: npt.NDArray[np.int64] = 5 + extra
    return lengths
