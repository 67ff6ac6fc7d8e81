"""From the user's tables to the encoded dataset."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dualtower.config import FilterConfig, RunConfig, load_config
from dualtower.data import storage
from dualtower.data.arrays import EventWriter, memory_map, query_chunks, read_events
from dualtower.data.core import core
from dualtower.data.dataset import Dataset
from dualtower.data.encode import Encoding, learn_features
from dualtower.data.interactions import CONTEXT, Interactions, read_interactions
from dualtower.data.notes import late_history_note, null_word_notes, order_note, own_item_notes
from dualtower.data.side_tables import read_side_table
from dualtower.data.sorting import write_sorted
from dualtower.data.tables import Table, collect, find_files, open_table
from dualtower.data.vocabulary import Vocabulary
from dualtower.errors import BundleError, ConfigError, DataError
from dualtower.files import (
    read_folder,
    read_manifest,
    recover_folder,
    replacing_folder,
    sha256,
)
from dualtower.progress import Bar, progress_bar, say
from dualtower.schema import Schema

MAXIMUM_ROWS = 2**31 - 2
"""Most queries or items: their rows are 32-bit numbers, and row 0 is the unknown."""


def prepare(config: RunConfig | str | Path, *, progress: bool = True) -> Dataset:
    """Read, check, order and encode the tables, and write the dataset to `config.data.dataset`.

    The rows are streamed; what is held in memory grows with the number of queries and items, not
    with the number of events. A kill at any moment leaves the old dataset or the new one.

    Args:
        config: the run's configuration, or the TOML file that holds it.
        progress: show a bar, and say in one line each what was left out or guessed.

    Returns:
        The dataset, memory-mapped.

    Raises:
        ConfigError: the configuration is not valid.
        DataError: a table is not as it should be.
    """
    if not isinstance(config, RunConfig):
        config = load_config(config)
    tables = _open(config)
    with replacing_folder(config.data.dataset, storage.FORMAT) as folder:
        source = {"files": _fingerprints(_files(tables)), "settings": _settings(config)}
        _build(tables, config.columns, config.filter, folder, source, progress)
    return storage.load(config.data.dataset)


def from_frames(
    interactions: Any,
    items: Any = None,
    queries: Any = None,
    schema: Schema | None = None,
    filter: FilterConfig | None = None,
) -> Dataset:
    """The dataset in memory, by the same steps as `prepare`; see `Dataset.from_frames`."""
    ids = id_columns(schema or Schema())
    tables = {"interactions": open_table(interactions, "interactions", id_columns=ids)}
    if items is not None:
        tables["items"] = open_table(items, "items", id_columns=ids)
    if queries is not None:
        tables["queries"] = open_table(queries, "queries", id_columns=ids)
    if schema is None:
        schema = default_schema(tables)
    with tempfile.TemporaryDirectory(prefix="dualtower-") as name:
        folder = Path(name)
        source = {"files": _fingerprints(_files(tables))}
        _build(tables, schema, filter or FilterConfig(), folder, source, True)
        return storage.load(folder, in_memory=True)


def default_schema(tables: Mapping[str, Table]) -> Schema:
    """The schema of tables whose columns have the usual names.

    `user_id` and `item_id`; by order of preference `timestamp` or `datetime`, else `position`;
    `weight`; `category` of the items table. A `rating` is no weight: whether a low one counts
    less is for the user to say.
    """
    present = tables["interactions"].schema.names()

    def first(*names: str) -> str | None:
        return next((name for name in names if name in present), None)

    timestamp = first("timestamp", "datetime")
    has_category = "items" in tables and "category" in tables["items"].schema
    return Schema(
        timestamp=timestamp,
        position=None if timestamp else first("position"),
        weight=first("weight"),
        category="category" if has_category else None,
    )


def id_columns(schema: Schema) -> tuple[str, ...]:
    """The columns of all tables that hold ids."""
    names = (
        schema.query_id,
        schema.item_id,
        schema.query_id_in_queries,
        schema.item_id_in_items,
    )
    return tuple(name for name in names if name is not None)


def stale_reason(config: RunConfig) -> str | None:
    """Why the dataset that the configuration names must be prepared (again); None if it is current.

    Reads the manifest and the tables' bytes, not their rows.

    Raises:
        DataError: a table does not exist.
    """
    folder = Path(config.data.dataset)
    recover_folder(folder)
    if not folder.exists():
        return f"{folder} does not exist yet"
    try:
        source = read_folder(folder, _read_source)
    except BundleError as error:
        return str(error)
    if source.get("settings") != _settings(config):
        return "columns or filter were changed since it was prepared"
    files = {what: find_files(path, what) for what, path in _table_paths(config).items()}
    if source.get("files") != _fingerprints(files):
        return "the tables were changed since it was prepared"
    return None


@dataclass(frozen=True)
class _Logs:
    """What `_write_logs` found beside the arrays that it wrote."""

    queries: Vocabulary
    items: Vocabulary
    offsets: npt.NDArray[np.int64]
    encoding: Encoding
    dropped: dict[str, int]
    notes: tuple[str, ...]


def _build(
    tables: Mapping[str, Table],
    schema: Schema,
    filter: FilterConfig,
    folder: Path,
    source: dict[str, Any],
    progress: bool,
) -> None:
    _check_tables_given(tables, schema)
    with progress_bar("Checking", 1, "tables", shown=progress) as bar:
        interactions = read_interactions(tables["interactions"], schema)
        bar.advance()
    kept = interactions.rows_read - sum(interactions.dropped.values())
    with progress_bar("Preparing", 3 * kept, "rows", shown=progress) as bar:
        logs = _write_logs(interactions, schema, filter, folder, bar)
    events = read_events(folder, schema.context_features, memory_map)
    queries = read_side_table(
        tables.get("queries"),
        schema.query_id_in_queries or schema.query_id,
        logs.queries,
        schema.query_features,
        "query",
        item_vocabulary=logs.items,
    )
    items = read_side_table(
        tables.get("items"),
        schema.item_id_in_items or schema.item_id,
        logs.items,
        schema.item_features,
        "item",
        item_vocabulary=logs.items,
        category=schema.category,
    )
    notes = [*interactions.notes, *logs.notes, *queries.notes, *items.notes]
    if not (schema.timestamp or schema.position or schema.unordered):
        notes += order_note(logs.offsets, events.items, events.split)
    notes += late_history_note(logs.offsets, events.times, events.split)
    notes += own_item_notes(logs.offsets, events.items, queries.columns)
    dropped = {**interactions.dropped, **logs.dropped}
    dataset = Dataset(
        schema=schema,
        query_vocabulary=logs.queries,
        item_vocabulary=logs.items,
        category_vocabulary=items.category_vocabulary,
        feature_vocabularies={
            **queries.encoding.vocabularies,
            **items.encoding.vocabularies,
            **logs.encoding.vocabularies,
        },
        numeric_scales={
            **queries.encoding.scales,
            **items.encoding.scales,
            **logs.encoding.scales,
        },
        offsets=logs.offsets,
        items=events.items,
        times=events.times,
        weights=events.weights,
        split=events.split,
        item_categories=items.categories,
        query_features=queries.columns,
        item_features=items.columns,
        context_features=events.context,
        source={
            **source,
            "rows": interactions.rows_read,
            "dropped": dropped,
            "query_table": queries.counts,
            "item_table": items.counts,
            "notes": notes,
        },
    )
    storage.write_all_but_events(dataset, folder)
    if dropped:
        reasons = ", ".join(f"{count:,} ({reason})" for reason, count in dropped.items())
        notes.insert(0, f"{interactions.rows_read:,} rows read, left out: {reasons}")
    for note in notes if progress else ():
        say(note)


def _write_logs(
    interactions: Interactions, schema: Schema, filter: FilterConfig, folder: Path, bar: Bar
) -> _Logs:
    queries, items = _count(interactions, "query"), _count(interactions, "item")
    item_vocabulary = Vocabulary(items["value"])
    encoding = _learn_context(interactions, schema)
    bar.advance(int(queries["len"].sum()))
    scratch = folder / "scratch"
    scratch.mkdir()
    counts = write_sorted(
        interactions,
        schema,
        queries,
        item_vocabulary,
        encoding,
        filter.duplicates,
        folder,
        scratch,
        bar,
    )
    shutil.rmtree(scratch)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    notes = (
        *null_word_notes(queries, schema.query_id, "query"),
        *null_word_notes(items, schema.item_id, "item"),
    )
    logs = _Logs(Vocabulary(queries["value"]), item_vocabulary, offsets, encoding, {}, notes)
    repeats = int(queries["len"].sum()) - int(offsets[-1])
    if repeats:
        logs.dropped["repeats of a query-item pair"] = repeats
    if filter.min_query_events == 1 and filter.min_item_events == 1 and not repeats:
        return logs
    return _keep_core(logs, schema, filter, folder)


def _count(interactions: Interactions, column: str) -> pl.DataFrame:
    """Number of events by id, sorted by id."""
    counts = interactions.table.frame.group_by(pl.col(column).alias("value")).len()
    counted = collect(interactions.table, counts).sort("value")
    if len(counted) > MAXIMUM_ROWS:
        kind = "queries" if column == "query" else "items"
        raise DataError(
            f"{interactions.table.name}: {len(counted):,} different {kind}; at most "
            f"{MAXIMUM_ROWS:,} can be numbered. Is the right column named as their id?"
        )
    return counted


def _learn_context(interactions: Interactions, schema: Schema) -> Encoding:
    names = {f"{CONTEXT}{feature.name}": feature.name for feature in schema.context_features}
    frame = interactions.table.frame.select(pl.col(old).alias(new) for old, new in names.items())
    if not names:
        return Encoding()
    table = Table(interactions.table.name, frame, ())
    return learn_features(table, schema.context_features, "context")


def _keep_core(logs: _Logs, schema: Schema, filter: FilterConfig, folder: Path) -> _Logs:
    """Drop what the k-core leaves out and number queries and items anew."""
    events = read_events(folder, schema.context_features, memory_map)
    keep_queries, keep_items = core(
        logs.offsets,
        events.items,
        len(logs.items),
        filter.min_query_events,
        filter.min_item_events,
    )
    if keep_queries.sum() == 1:
        raise DataError(
            f"filter.min_query_events = {filter.min_query_events} and filter.min_item_events = "
            f"{filter.min_item_events} leave no events; choose smaller numbers"
        )
    if keep_queries.all() and keep_items.all():
        return logs
    new_items = np.cumsum(keep_items) - 1
    lengths = np.zeros(len(keep_queries), dtype=np.int64)
    kept_folder = folder / "kept"
    kept_folder.mkdir()
    writer = EventWriter(kept_folder)
    for first, last in query_chunks(logs.offsets):
        piece = events.take(slice(logs.offsets[first], logs.offsets[last]))
        rows = np.repeat(np.arange(first, last), np.diff(logs.offsets[first : last + 1]))
        kept = np.flatnonzero(keep_queries[rows] & keep_items[piece.items])
        lengths[first:last] = np.bincount(rows[kept] - first, minlength=last - first)
        piece = piece.take(kept)
        piece.items[:] = new_items[piece.items]
        writer.append(piece)
    writer.close()
    for file in kept_folder.iterdir():
        file.replace(folder / file.name)
    kept_folder.rmdir()
    offsets = np.concatenate([[0], np.cumsum(lengths[keep_queries])])
    dropped = int(logs.offsets[-1] - offsets[-1])
    return _Logs(
        Vocabulary(logs.queries.values.filter(pl.Series(keep_queries[1:]))),
        Vocabulary(logs.items.values.filter(pl.Series(keep_items[1:]))),
        offsets,
        logs.encoding,
        {**logs.dropped, "k-core": dropped},
        logs.notes,
    )


def _open(config: RunConfig) -> dict[str, Table]:
    ids = id_columns(config.columns)
    return {
        what: open_table(path, what, id_columns=ids) for what, path in _table_paths(config).items()
    }


def _table_paths(config: RunConfig) -> dict[str, str]:
    data = config.data
    paths = {"interactions": data.interactions, "items": data.items, "queries": data.queries}
    return {what: path for what, path in paths.items() if path is not None}


def _fingerprints(tables: Mapping[str, Sequence[Path]]) -> dict[str, list[dict[str, str]]]:
    """Name and SHA-256 of the files of each table."""
    return {
        what: [{"name": file.name, "sha256": sha256(file)} for file in files]
        for what, files in tables.items()
    }


def _files(tables: Mapping[str, Table]) -> dict[str, Sequence[Path]]:
    return {what: table.files for what, table in tables.items()}


def _settings(config: RunConfig) -> dict[str, Any]:
    return {
        "columns": config.columns.model_dump(mode="json"),
        "filter": config.filter.model_dump(mode="json"),
    }


def _read_source(folder: Path) -> dict[str, Any]:
    source: dict[str, Any] = read_manifest(folder, storage.FORMAT, storage.FORMAT_VERSION)["source"]
    return source


def _check_tables_given(tables: Mapping[str, Table], schema: Schema) -> None:
    needs = {
        "items": [
            *(["columns.category"] if schema.category is not None else []),
            *(["columns.item_features"] if schema.item_features else []),
        ],
        "queries": ["columns.query_features"] if schema.query_features else [],
    }
    for what, settings in needs.items():
        if settings and what not in tables:
            raise ConfigError(
                f"{' and '.join(settings)}: columns of the {what} table, but there is none; "
                f"name it as data.{what} or leave the setting out"
            )
