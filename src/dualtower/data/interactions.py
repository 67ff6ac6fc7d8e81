"""The interactions table, checked, under names of our own."""

from dataclasses import dataclass

import polars as pl

from dualtower.data.encode import check_features
from dualtower.data.rules import Rule, check_rules
from dualtower.data.tables import Table, collect, require_columns
from dualtower.data.times import microseconds
from dualtower.errors import DataError
from dualtower.schema import Schema

SPLIT_VALUES = {"train": 0, "validation": 1, "valid": 1, "val": 1, "test": 2}
"""What the split column may say, in any case."""
_EXACT_BELOW: dict[pl.DataType, int] = {pl.Float64(): 2**53, pl.Float32(): 2**24}
"""A whole number from here on may be its neighbour rounded; of the shorter floats, from 2¹¹ on."""
CONTEXT = "context/"
"""Prefix of the context features' columns."""


@dataclass(frozen=True)
class Interactions:
    """The rows that are kept, not read yet.

    Columns: `row` (place among the kept rows), `query`, `item`; where the schema names them
    `order` (int64), `weight` (float32), `split` (int8); context features as `context/NAME`.
    """

    table: Table
    rows_read: int
    dropped: dict[str, int]
    """Rows left out, by reason."""
    notes: tuple[str, ...]


def read_interactions(table: Table, schema: Schema) -> Interactions:
    """Check the interactions table in one pass and rename its columns.

    Rows without query, item or split are left out and counted.

    Raises:
        DataError: a column is missing or of a wrong type, or a kept row has an unreadable time,
            a negative or missing weight, or an unknown split; or no rows are left.
    """
    named = {"columns.query_id": schema.query_id, "columns.item_id": schema.item_id}
    for purpose in ("timestamp", "position", "weight", "split"):
        column = getattr(schema, purpose)
        if column is not None:
            named[f"columns.{purpose}"] = column
    for number, feature in enumerate(schema.context_features):
        named[f"columns.context_features[{number}].name"] = feature.name
    require_columns(table, named)

    columns = {"query": id_values(table, schema.query_id), "item": id_values(table, schema.item_id)}
    notes, rules = [], []
    kept = columns["query"].is_not_null() & columns["item"].is_not_null()
    reasons = {
        f"no {schema.query_id}": columns["query"].is_null(),
        f"no {schema.item_id}": columns["query"].is_not_null() & columns["item"].is_null(),
    }
    if schema.split is not None:
        columns["split"], missing, rule = _split(table, schema.split)
        reasons[f"no {schema.split}"] = kept & missing
        rules.append(rule)
        kept = kept & ~missing
    if schema.timestamp is not None:
        columns["order"], rule, note = microseconds(table, schema.timestamp)
        rules.append(rule)
        notes += [note] if note else []
    if schema.position is not None:
        columns["order"], rule = _position(table, schema.position)
        rules.append(rule)
    if schema.weight is not None:
        columns["weight"], rule = _weight(table, schema.weight)
        rules.append(rule)
    check_ids(table, schema.query_id, schema.item_id)
    check_rules(table, [rule.among(kept) for rule in rules])

    counts = [pl.len().alias("rows"), *(flag.sum().alias(name) for name, flag in reasons.items())]
    found = collect(table, table.frame.select(counts)).row(0, named=True)
    rows_read = int(found.pop("rows"))
    dropped = {name: int(count) for name, count in found.items() if count}
    if rows_read == sum(dropped.values()):
        why = ", ".join(f"{count:,} rows with {reason}" for reason, count in dropped.items())
        raise DataError(f"{table.name}: no rows are left: {why}")
    check_features(table, schema.context_features, "context")
    context = {
        f"{CONTEXT}{feature.name}": pl.col(feature.name) for feature in schema.context_features
    }
    frame = table.frame.filter(kept).select(**columns, **context).with_row_index("row")
    renamed = Table(table.name, frame, ((table.name, frame),), table.files)
    return Interactions(renamed, rows_read, dropped, tuple(notes))


def id_values(table: Table, column: str) -> pl.Expr:
    """Ids of any plain type: categories as text, whole floats as integers.

    What says nothing is null: NaN, and a text that is empty or blank.

    Raises:
        DataError: the column holds lists, structs or objects.
    """
    dtype = table.schema[column]
    if dtype.is_nested() or dtype in (pl.Object, pl.Null, pl.Unknown):
        reason = "is null in every row" if dtype == pl.Null else f"is of type {dtype}"
        raise DataError(f"{table.name}: column {column!r} {reason}; ids are whole numbers or texts")
    value = pl.col(column)
    if isinstance(dtype, pl.Categorical | pl.Enum | pl.String):
        text = value.cast(pl.String)
        return pl.when(text.str.strip_chars() != "").then(text)
    if dtype.is_float():
        return value.fill_nan(None).cast(pl.Int64, strict=False)
    return value


def check_ids(table: Table, *columns: str) -> None:
    """Check that ids that are decimal numbers are whole ones, each exactly the id that was meant.

    A float tells neighbouring whole numbers apart only below a power of two; above it different
    ids have become one, as where a column of a data frame has missing values or where files of one
    table hold it as whole numbers and as decimals.

    Raises:
        DataError: one is not.
    """
    rules = []
    for column in columns:
        dtype = table.schema[column]
        if dtype.is_float():
            value, limit = pl.col(column), _EXACT_BELOW.get(dtype, 2**11)
            whole = (value == value.round()) & value.cast(pl.Int64, strict=False).is_not_null()
            problem = "is not a whole number; ids are whole numbers or texts"
            rules.append(Rule(column, value.is_not_nan() & ~whole, problem))
            problem = (
                f"is so large that different ids are the same {dtype}, which tells whole numbers "
                f"apart up to {limit:,}; give them as integers or texts, in every file of the table"
            )
            rules.append(Rule(column, value.is_not_nan() & (value.abs() >= limit), problem))
    check_rules(table, rules)


def _split(table: Table, column: str) -> tuple[pl.Expr, pl.Expr, Rule]:
    dtype = table.schema[column]
    if dtype == pl.Null:
        raise DataError(f"{table.name}: column {column!r} is null in every row")
    if dtype != pl.String and not isinstance(dtype, pl.Categorical | pl.Enum):
        raise DataError(
            f"{table.name}: column {column!r} is of type {dtype}; a split column says train, "
            "validation or test"
        )
    text = pl.col(column).cast(pl.String).str.strip_chars().str.to_lowercase()
    missing = text.is_null() | (text == "")
    code = text.replace_strict(
        list(SPLIT_VALUES), list(SPLIT_VALUES.values()), default=None, return_dtype=pl.Int8
    )
    rule = Rule(
        column, code.is_null() & ~missing, "is not a split; it should be train, validation or test"
    )
    return code, missing, rule


def _position(table: Table, column: str) -> tuple[pl.Expr, Rule]:
    dtype = table.schema[column]
    if not dtype.is_numeric():
        raise DataError(
            f"{table.name}: column {column!r} is of type {dtype}; a position is a whole number"
        )
    value = pl.col(column)
    remedy = "every event needs a whole number as its position"
    if dtype.is_float():
        broken = ~(value.is_finite() & (value == value.round()))
        return value.cast(pl.Int64, strict=False), Rule(
            column, broken.fill_null(True), f"is not a whole number; {remedy}"
        )
    return value.cast(pl.Int64), Rule(column, value.is_null(), f"is missing; {remedy}")


def _weight(table: Table, column: str) -> tuple[pl.Expr, Rule]:
    dtype = table.schema[column]
    if not dtype.is_numeric():
        raise DataError(
            f"{table.name}: column {column!r} is of type {dtype}; a weight is a number, 0 or more"
        )
    value = pl.col(column).cast(pl.Float32)
    broken = ~(value.is_finite() & (value >= 0)).fill_null(False)
    return value, Rule(column, broken, "is not a weight; it should be a number, 0 or more")
