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
_CALENDAR_FORMATS = (
    ("YYYYMMDD", 8, "%Y%m%d"),
    ("YYYYMMDDhhmm", 12, "%Y%m%d%H%M"),
    ("YYYYMMDDhhmmss", 14, "%Y%m%d%H%M%S"),
)
"""Dates written as digits: their name, number of digits, and how they are read."""
_CALENDAR_YEARS = (1900, 2100)
_PROBED_ROWS = 1_000
_EPOCH_UNITS = (
    (1e11, "seconds", 1_000_000.0),
    (1e14, "milliseconds", 1_000.0),
    (1e17, "microseconds", 1.0),
    (float("inf"), "nanoseconds", 0.001),
)


def microseconds(table: Table, column: str) -> tuple[pl.Expr, Rule, str | None]:
    """How to read a timestamp column.

    Accepts datetimes, dates, ISO texts, dates written as digits (20240131 or 20240131180500, as
    number or text), and numbers since 1970 whose size tells seconds, milliseconds, microseconds or
    nanoseconds. Times without a zone are taken as UTC.

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
    elif (form := calendar_form(table, column)) is not None:
        expression = _calendar(table, column, form)
        note = f"{table.name}: column {column!r} was read as dates written {form}"
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
        "2024-01-31 18:05:00, digits such as 20240131, or seconds since 1970)",
    )
    return expression, rule, note


def calendar_form(table: Table, column: str) -> str | None:
    """How dates are written as digits in a column of numbers or texts, such as YYYYMMDD.

    So a column is read whose first values are mostly such dates of the years 1900 to 2100. As
    seconds since 1970 they would all be of a few days in August 1970, as milliseconds of 1976 or
    of some days about the year 2610.

    Returns:
        The form's name; None where the column is something else.
    """
    dtype = table.schema[column]
    if not (dtype.is_numeric() or dtype == pl.String):
        return None
    probe = collect(
        table,
        table.frame.select(column).filter(pl.col(column).is_not_null()).head(_PROBED_ROWS),
    )
    for name, _, _ in _CALENDAR_FORMATS:
        read = probe.select(_calendar(table, column, name).count()).item()
        if read > len(probe) / 2:
            return name
    return None


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


def _calendar(table: Table, column: str, name: str) -> pl.Expr:
    """Dates written as digits in microseconds since 1970; null for any other value."""
    digits, form = next((length, form) for n, length, form in _CALENDAR_FORMATS if n == name)
    value = pl.col(column)
    if table.schema[column].is_numeric():
        if not table.schema[column].is_integer():
            value = pl.when(value.is_finite() & (value == value.round())).then(value)
        value = value.cast(pl.Int64, strict=False).cast(pl.String)
    else:
        value = value.str.strip_chars()
    value = pl.when(value.str.contains(f"^[0-9]{{{digits}}}$")).then(value)
    first, last = _CALENDAR_YEARS
    if form == "%Y%m%d":
        times = value.str.to_date(form, strict=False).cast(pl.Datetime("us"))
    else:
        times = value.str.to_datetime(form, time_unit="us", strict=False)
    return pl.when(times.dt.year().is_between(first, last)).then(times.dt.timestamp("us"))


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
