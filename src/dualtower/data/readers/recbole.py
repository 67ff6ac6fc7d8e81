"""RecBole's atomic files: `NAME.inter`, and if there are any `NAME.item` and `NAME.user`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dualtower.data.readers.categories import category_reason, with_few_categories
from dualtower.data.readers.fields import Fields, check_fields, open_fields, read_header
from dualtower.data.readers.folder import (
    Imported,
    check_kinds,
    finish,
    importing,
    one_file,
    table_path,
    write_table,
)
from dualtower.data.rules import Rule
from dualtower.errors import DataError
from dualtower.progress import progress_bar
from dualtower.schema import Feature, FeatureKind, Schema

SUFFIXES = {"interactions": ".inter", "items": ".item", "queries": ".user"}
KINDS = {
    "token": FeatureKind.CATEGORICAL,
    "token_seq": FeatureKind.MULTI_VALUED,
    "float": FeatureKind.NUMERIC,
    "float_seq": FeatureKind.VECTOR,
}
"""What each of RecBole's types is here."""
RARE = 2
"""A token of one item or user alone says no more than its id."""
_TIMESTAMP = "timestamp"
_RATING = "rating"
"""Kept in the table, but no weight (every event is a positive) and no context."""


@dataclass(frozen=True)
class Atomic:
    """An atomic file, not read yet."""

    fields: Fields
    types: dict[str, str]
    """RecBole's type by column."""

    @property
    def frame(self) -> pl.LazyFrame:
        """The columns, read by their types."""
        return self.fields.frame.select(
            _value(name, kind).alias(name) for name, kind in self.types.items()
        )

    def check(self) -> int:
        """Check all lines; how many there are.

        Raises:
            DataError: a line does not fit the header; the message names it.
        """
        return check_fields(self.fields, _rules(self.types))


def import_recbole(
    files: Sequence[str | Path],
    folder: str | Path,
    *,
    query_id: str = "user_id",
    item_id: str = "item_id",
    timestamp: str = _TIMESTAMP,
    category: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Imported:
    """RecBole's atomic files into tables and a configuration.

    Types become feature kinds: token categorical, token_seq (between spaces) multi-valued, float
    numeric, float_seq (between spaces) vector.

    Args:
        files: NAME.inter, and if wanted NAME.item and NAME.user; or the folder that holds them.
        folder: where the tables and `dualtower.toml` go.
        query_id: the column of .inter and .user that names the user.
        item_id: the column of .inter and .item that names the item.
        timestamp: the float column of .inter that orders a user's events. Where it is not named
            and there is none of the usual name, they are in the order of the lines.
        category: the token or token_seq column of .item (its first token) that the categories are
            made of; none without it.
        overwrite: whether tables and configuration that are there may be replaced.
        progress: show bars.

    Raises:
        ConfigError: `folder` already holds such files and they may not be replaced.
        DataError: a file is not as it should be; the message names file and line.
    """
    keys = {"interactions": (query_id, item_id), "items": (item_id,), "queries": (query_id,)}
    found = {table: open_atomic(path, keys[table]) for table, path in _find(files).items()}
    events = found["interactions"]
    if category is not None:
        _check_category(found.get("items"), category)
    if timestamp != _TIMESTAMP:
        _check_timestamp(events, timestamp)
    with importing(Path(folder), overwrite) as scratch:
        rows, categories = _write(found, scratch, category, item_id, progress)
        timed = events.types.get(timestamp) == "float"
        used = {query_id, item_id, _RATING, *([timestamp] if timed else [])}
        schema = Schema(
            query_id=query_id,
            item_id=item_id,
            timestamp=timestamp if timed else None,
            category=_reduced(category) if category is not None else None,
            query_features=_features(found.get("queries"), {query_id}),
            item_features=_features(found.get("items"), {item_id}),
        )
        return finish(
            scratch,
            "`dualtower import recbole`",
            rows,
            schema,
            _reasons(found, rows, schema, categories, category),
            categories=categories,
            context=_features(events, used),
        )


def open_atomic(path: Path, keys: Sequence[str]) -> Atomic:
    """Open an atomic file without reading its rows.

    Args:
        path: the file.
        keys: token columns that it must have.

    Raises:
        DataError: no such file, or its header is not `NAME:TYPE` between tabs with all `keys`.
    """
    types = {}
    for name in read_header(path, "\t"):
        column, colon, kind = name.rpartition(":")
        if not colon or kind not in KINDS or not column:
            raise DataError(
                f"{path}: line 1: {name!r} is not NAME:TYPE with a type of {', '.join(KINDS)}, "
                "and tabs between the columns"
            )
        if column in types:
            raise DataError(f"{path}: line 1 names the column {column!r} twice")
        types[column] = kind
    for key in keys:
        if types.get(key) != "token":
            raise DataError(
                f"{path}: line 1 names no column {key}:token; the columns are: "
                + ", ".join(f"{column}:{kind}" for column, kind in types.items())
            )
    return Atomic(open_fields(path, "\t", list(types), has_header=True), types)


def _find(files: Sequence[str | Path]) -> dict[str, Path]:
    """The atomic file of each table that there is one for."""
    paths = [Path(file) for file in files]
    if len(paths) == 1 and paths[0].is_dir():
        suffixes = tuple(SUFFIXES.values())
        paths = sorted(path for path in paths[0].iterdir() if path.name.endswith(suffixes))
    check_kinds(paths, tuple(SUFFIXES.values()))
    found = {"interactions": one_file(paths, [SUFFIXES["interactions"]], "the interactions")}
    for table in ("items", "queries"):
        if any(path.name.endswith(SUFFIXES[table]) for path in paths):
            found[table] = one_file(paths, [SUFFIXES[table]], f"the {table}")
    return found


def _write(
    found: Mapping[str, Atomic],
    scratch: Path,
    category: str | None,
    item_id: str,
    progress: bool,
) -> tuple[dict[str, int], dict[str, int]]:
    """Check all files, then write their tables; rows by table, and items by category."""
    rows: dict[str, int] = {}
    categories: dict[str, int] = {}
    with progress_bar("Reading", 2 * len(found), "passes", shown=progress) as bar:
        for atomic in found.values():
            atomic.check()
            bar.advance()
        for table, atomic in found.items():
            frame = atomic.frame
            if table == "items" and category is not None:
                many = pl.col(category)
                if atomic.types[category] == "token_seq":
                    many = many.list.first()
                path = table_path(scratch, "interactions")
                frame, categories = with_few_categories(
                    frame, many, path, _reduced(category), item_id=item_id
                )
            rows[table] = write_table(scratch, table, frame)
            bar.advance()
    return rows, categories


def _reasons(
    found: Mapping[str, Atomic],
    rows: Mapping[str, int],
    schema: Schema,
    categories: Mapping[str, int],
    category: str | None,
) -> dict[str, str]:
    name = found["interactions"].fields.path.name
    reasons = {
        "columns.query_id": f"Names the user in {name}",
        "columns.item_id": f"Names the item in {name}",
    }
    for table, atomic in found.items():
        reasons[f"data.{table}"] = f"{rows[table]:,} rows of {atomic.fields.path.name}"
    for side, table in (("item_features", "items"), ("query_features", "queries")):
        for feature in getattr(schema, side):
            reasons[f"columns.{side}.{feature.name}"] = found[table].types[feature.name]
    if category is not None:
        what = f"The first token of {category}"
        reasons["columns.category"] = category_reason(categories, what)
    return reasons


def _check_timestamp(events: Atomic, timestamp: str) -> None:
    kind = events.types.get(timestamp)
    if kind != "float":
        floats = [name for name, of in events.types.items() if of == "float" and name != _RATING]
        raise DataError(
            f"{events.fields.path}: --timestamp {timestamp} is "
            + (f"of type {kind}, and a time is a float" if kind else "not one of its columns")
            + f"; other float columns: {', '.join(floats) or 'none'}"
        )


def _reduced(category: str) -> str:
    """The name of the column with few categories."""
    return f"top_{category}"


def _value(column: str, kind: str) -> pl.Expr:
    text = pl.col(column).str.strip_chars(" ")
    if kind == "token":
        return pl.when(text != "").then(text)
    if kind == "float":
        return text.cast(pl.Float64, strict=False).fill_nan(None)
    tokens = text.str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    if kind == "token_seq":
        return tokens
    numbers = tokens.cast(pl.List(pl.Float64), strict=False)
    return pl.when(numbers.list.len() > 0).then(numbers)


def _rules(types: dict[str, str]) -> list[Rule]:
    rules = []
    for column, kind in types.items():
        value = _value(column, kind)
        filled = pl.col(column).str.strip_chars(" ") != ""
        if kind == "float":
            unread = (
                filled
                & pl.col(column).str.strip_chars(" ").cast(pl.Float64, strict=False).is_null()
            )
            rules.append(Rule(column, unread | value.is_infinite(), "is not a finite number"))
        elif kind == "float_seq":
            broken = value.list.eval(~pl.element().is_finite().fill_null(False)).list.any()
            rules.append(Rule(column, broken, "does not hold finite numbers between spaces"))
    return rules


def _features(atomic: Atomic | None, keys: set[str]) -> tuple[Feature, ...]:
    if atomic is None:
        return ()
    return tuple(
        Feature(name=name, kind=KINDS[kind], min_count=RARE if kind.startswith("token") else 1)
        for name, kind in atomic.types.items()
        if name not in keys
    )


def _check_category(items: Atomic | None, category: str) -> None:
    if items is None:
        raise DataError(f"the category {category!r} is a column of an .item file; none was given")
    if not items.types.get(category, "").startswith("token"):
        fitting = [name for name, kind in items.types.items() if kind.startswith("token")]
        raise DataError(
            f"{items.fields.path}: line 1 names no column {category!r} of type token or token_seq; "
            f"those are: {', '.join(fitting)}"
        )
