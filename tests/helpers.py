"""Small datasets built by hand, for tests of rooms that only read a dataset."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from dualtower.data.columns import FeatureColumn, QueryBatch, Ragged
from dualtower.data.dataset import Dataset, Log, Split
from dualtower.data.vocabulary import Vocabulary
from dualtower.schema import Schema


def tiny_dataset(
    logs: Sequence[Sequence[int]],
    *,
    item_count: int | None = None,
    categories: Sequence[str | None] | None = None,
    schema: Schema | None = None,
    query_features: dict[str, FeatureColumn] | None = None,
    item_features: dict[str, FeatureColumn] | None = None,
    context_features: dict[str, FeatureColumn] | None = None,
    feature_vocabularies: dict[str, Vocabulary] | None = None,
    query_ids: pl.Series | None = None,
    item_ids: pl.Series | None = None,
) -> Dataset:
    """A dataset with the given logs.

    Args:
        logs: the item rows (from 1) of query rows 1, 2, … in order; queries are "q1", "q2", …
            and items "i1", "i2", … unless ids are given.
        item_count: rows of the item vocabulary with the unknown; by default just enough.
        categories: the category of item rows 1, 2, …; None for unknown. No categories by default.
        schema: by default one without order, weight or features.
        query_features: one row per query row, the unknown included.
        item_features: one row per item row, the unknown included.
        context_features: one row per event.
        feature_vocabularies: by `side/name`.
        query_ids: ids of query rows 1, 2, …
        item_ids: ids of item rows 1, 2, …
    """
    events = np.array([item for log in logs for item in log], dtype=np.int32)
    lengths = [0] + [len(log) for log in logs]
    count = item_count or int(events.max(initial=0)) + 1
    named = [None] * (count - 1) if categories is None else list(categories)
    category_vocabulary = Vocabulary(
        pl.Series(sorted({name for name in named if name is not None}), dtype=pl.String)
    )
    if query_ids is None:
        query_ids = pl.Series([f"q{row}" for row in range(1, len(logs) + 1)], dtype=pl.String)
    if item_ids is None:
        item_ids = pl.Series([f"i{row}" for row in range(1, count)], dtype=pl.String)
    return Dataset(
        schema=schema or Schema(),
        query_vocabulary=Vocabulary(query_ids),
        item_vocabulary=Vocabulary(item_ids),
        category_vocabulary=category_vocabulary,
        feature_vocabularies=feature_vocabularies or {},
        numeric_scales={},
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=events,
        times=None,
        weights=None,
        split=None,
        item_categories=np.concatenate(
            [[0], category_vocabulary.encode(pl.Series(named, dtype=pl.String))]
        ).astype(np.int32),
        query_features=query_features or {},
        item_features=item_features or {},
        context_features=context_features or {},
        source={"rows": len(events)},
    )


def leave_last_out_by_hand(dataset: Dataset) -> Split:
    """Each query's last event for test, the last but one for validation, where it has three."""
    start, end = dataset.offsets[:-1], dataset.offsets[1:]
    enough = end - start >= 3
    corpus = np.arange(1, dataset.item_count, dtype=np.int64)
    train_end = np.where(enough, end - 2, end)
    validation_end = np.where(enough, end - 1, end)
    return Split(
        train=Log(dataset, start, train_end, corpus),
        validation=Log(dataset, train_end, validation_end, corpus),
        test=Log(dataset, validation_end, end, corpus),
    )


def asked(dataset: Dataset, histories: Sequence[Sequence[int]]) -> QueryBatch:
    """Requests of query rows 1, 2, … with these histories, and the features of the dataset."""
    batch = dataset.everything().requests(np.arange(1, len(histories) + 1))
    values = np.array([item for past in histories for item in past], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    return QueryBatch(batch.rows, Ragged(values, offsets), batch.features, batch.context)
