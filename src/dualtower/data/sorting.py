"""From a table in any order to encoded logs, each query's events in order, in bounded memory."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.data.arrays import CHUNK_EVENTS, Events, EventWriter
from dualtower.data.encode import Encoding, encode_features
from dualtower.data.interactions import CONTEXT, Interactions
from dualtower.data.tables import collect, reading
from dualtower.data.vocabulary import Vocabulary
from dualtower.progress import Bar
from dualtower.schema import Schema

BUCKET = "bucket"


def write_sorted(
    interactions: Interactions,
    schema: Schema,
    queries: pl.DataFrame,
    item_vocabulary: Vocabulary,
    encoding: Encoding,
    duplicates: str,
    folder: Path,
    scratch: Path,
    bar: Bar,
) -> npt.NDArray[np.int64]:
    """Write the event arrays, sorted by query, split, order and place in the table.

    The table is cut into buckets of consecutive queries with about `CHUNK_EVENTS` events, each of
    which is sorted in memory; one query with more events makes a bucket of its own size.

    Args:
        interactions: the checked table.
        schema: the column names.
        queries: `value` (sorted) and `len` (number of events) of every query.
        item_vocabulary: all items.
        encoding: what was learned from the context features.
        duplicates: "keep", or which event of a query-item pair stays: "first" or "last".
        folder: where the arrays go.
        scratch: an empty folder for the buckets.
        bar: moves on by one for each row written to a bucket and each row sorted.

    Returns:
        Number of events of each query row, `[queries + 1]`, the unknown's (0) included.
    """
    starts = _bucket_starts(queries["len"].to_numpy())
    frames = [interactions.table.frame]
    total = int(queries["len"].sum())
    if len(starts) > 1:
        _write_buckets(interactions, queries["value"].gather(starts[1:]), scratch)
        frames = [
            pl.scan_parquet(sorted((scratch / f"{BUCKET}={number}").glob("*.parquet")), glob=False)
            for number in range(len(starts))
        ]
    bar.advance(total)
    counts = np.zeros(len(queries) + 1, dtype=np.int64)
    writer = EventWriter(folder)
    for start, end, frame in zip(starts, [*starts[1:], len(queries)], frames, strict=True):
        slice_of_queries = Vocabulary(queries["value"].slice(start, end - start))
        events = collect(interactions.table, frame)
        rows = len(events)
        if schema.unordered:
            events = events.with_columns(row=pl.Series(scrambled(events["row"].to_numpy())))
        events = _encode_and_sort(events, slice_of_queries, item_vocabulary, duplicates)
        counts[start + 1 : end + 1] = np.bincount(
            events["query"].to_numpy() - 1, minlength=end - start
        )
        writer.append(_events(events, schema, item_vocabulary, encoding))
        bar.advance(rows)
    writer.close()
    return counts


def scrambled(rows: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
    """A number for each row number, all different, whose order is as good as random.

    SplitMix64's mixing function (Steele, Lea and Flood 2014): the same on every machine.
    """
    mixed = rows.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _bucket_starts(events: npt.NDArray[np.unsignedinteger]) -> list[int]:
    """The first query (from 0) of each bucket."""
    bucket = (np.cumsum(events, dtype=np.int64) - 1) // CHUNK_EVENTS
    return [0, *(np.flatnonzero(np.diff(bucket)) + 1).tolist()]


def _write_buckets(interactions: Interactions, boundaries: pl.Series, scratch: Path) -> None:
    def bucket(queries: pl.Series) -> pl.Series:
        return boundaries.search_sorted(queries, side="right").cast(pl.UInt32)

    number = pl.col("query").map_batches(bucket, return_dtype=pl.UInt32, is_elementwise=True)
    with reading(interactions.table.name, into=scratch):
        interactions.table.frame.with_columns(number.alias(BUCKET)).sink_parquet(
            pl.PartitionBy(scratch, key=BUCKET, include_key=False),
            compression="lz4",
            mkdir=True,
        )


def _encode_and_sort(
    events: pl.DataFrame, queries: Vocabulary, items: Vocabulary, duplicates: str
) -> pl.DataFrame:
    events = events.with_columns(
        query=pl.Series(queries.encode(events["query"])),
        item=pl.Series(items.encode(events["item"])),
    )
    keys = [name for name in ("query", "split", "order", "row") if name in events.columns]
    events = events.sort(keys)
    if duplicates == "keep":
        return events
    keep = "first" if duplicates == "first" else "last"
    return events.unique(("query", "item"), keep=keep, maintain_order=True)  # type: ignore[arg-type]


def _events(
    events: pl.DataFrame, schema: Schema, item_vocabulary: Vocabulary, encoding: Encoding
) -> Events:
    def optional(name: str, present: bool) -> npt.NDArray[np.generic] | None:
        return events[name].to_numpy() if present else None

    context = events.select(
        pl.col(f"{CONTEXT}{feature.name}").alias(feature.name)
        for feature in schema.context_features
    )
    return Events(
        items=events["item"].to_numpy(),
        times=optional("order", schema.timestamp is not None),  # type: ignore[arg-type]
        weights=optional("weight", schema.weight is not None),  # type: ignore[arg-type]
        split=optional("split", schema.split is not None),  # type: ignore[arg-type]
        context=encode_features(
            context,
            schema.context_features,
            "context",
            encoding.vocabularies,
            encoding.scales,
            item_vocabulary,
            sizes=encoding.sizes,
        ),
    )
