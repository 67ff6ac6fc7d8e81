"""Timestamps of any kind as microseconds since 1970 (UTC)."""

from datetime import UTC, date, datetime

import polars as pl

from dualtower.data.rules import Rule
from dualtower.data.tables import Table, collect
from dualtower.errors import ConfigError, DataError

_TEXT_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f %#z",
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f UTC",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
)
_DATE_FORMATS = ("%Y-%m-%d", "%Y/%m/%d")
_PROBED_ROWS = 1_000
_EPOCH_UNITS = (
    (1e11, "seconds", 1_000_000.0),
    (1e14, "milliseconds", 1_000.0),
    (1e17, "microseconds", 1.0),
    (float("inf"), "nanoseconds", 0.001),
)


def microseconds(table: Table, column: str) -> tuple[pl.Expr, Rule, str | None]:
    """How to read a timestamp column.

    Accepts datetimes, dates, ISO texts, and numbers since 1970 whose size tells seconds,
    milliseconds, microseconds or nanoseconds. Times without a zone are taken as UTC.

    Returns:
        The expression (int64 microseconds, null where unreadable), the rule that it is nowhere
        null, and a note for the user where something was guessed.

    Raises:
        DataError: the column's type cannot be a time.
    """
    dtype = table.schema[column]
    note = None
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        times = pl.col(column).dt.cast_time_unit("us") if dtype != pl.Date else pl.col(column)
        times = times.cast(pl.Datetime("us")) if dtype == pl.Date else times
        expression = times.dt.timestamp("us")
    elif dtype == pl.String:
        expression = _text(table, column)
    elif dtype.is_numeric():
        expression, note = _epoch(table, column)
    else:
        raise DataError(
            f"{table.name}: column {column!r} is of type {dtype}; a timestamp is a datetime, a "
            "date, an ISO text or a number of seconds since 1970"
        )
    rule = Rule(
        column,
        expression.is_null(),
        "is not a time; every event needs one (a datetime, a date, an ISO text such as "
        "2024-01-31 18:05:00, or seconds since 1970)",
    )
    return expression, rule, note


def parse_time(value: str | date | datetime, setting: str) -> int:
    """A date or time of a setting as microseconds since 1970; without a zone it is UTC.

    Raises:
        ConfigError: not an ISO date or datetime.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigError(
                f"{setting}: {value!r} is not an ISO date or datetime such as 2024-01-31"
            ) from None
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    seconds = value - datetime(1970, 1, 1, tzinfo=UTC)
    return (seconds.days * 86_400 + seconds.seconds) * 1_000_000 + seconds.microseconds


def show_time(microseconds_since_1970: int) -> str:
    """A time for messages, in UTC to the second."""
    time = pl.Series([microseconds_since_1970]).cast(pl.Datetime("us"))
    return str(time.dt.strftime("%Y-%m-%d %H:%M:%S").item())


def _text(table: Table, column: str) -> pl.Expr:
    text = pl.col(column).str.strip_chars()
    probe = collect(
        table, table.frame.select(text).filter(pl.col(column).is_not_null()).head(_PROBED_ROWS)
    )
    candidates = [
        text.str.to_datetime(form, time_unit="us", strict=False) for form in _TEXT_FORMATS
    ]
    candidates += [
        text.str.to_date(form, strict=False).cast(pl.Datetime("us")) for form in _DATE_FORMATS
    ]
    expressions = [candidate.dt.timestamp("us") for candidate in candidates]
    readable = [probe.select(expression.count()).item() for expression in expressions]
    return expressions[max(range(len(readable)), key=readable.__getitem__)]


def _epoch(table: Table, column: str) -> tuple[pl.Expr, str]:
    number = pl.col(column)
    if table.schema[column].is_float():
        number = pl.when(number.is_finite()).then(number)
    largest = collect(table, table.frame.select(number.cast(pl.Float64).abs().max())).item()
    size = largest or 0.0
    unit, scale = next((name, scale) for limit, name, scale in _EPOCH_UNITS if size < limit)
    if table.schema[column].is_integer() and scale >= 1:
        expression = number.cast(pl.Int64) * int(scale)
    elif table.schema[column].is_integer():
        expression = number.cast(pl.Int64) // 1_000
    else:
        expression = (number * scale).round().cast(pl.Int64, strict=False)
    return expression, f"{table.name}: column {column!r} was read as {unit} since 1970"
