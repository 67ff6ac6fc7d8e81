from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl
import pytest

from dualtower.data.tables import open_table
from dualtower.data.times import microseconds, parse_time, show_time
from dualtower.errors import ConfigError, DataError

NOON = 1_706_702_400_000_000  # 2024-01-31 12:00:00 UTC, from `date -u -d ... +%s`


def read(values: pl.Series) -> list[int | None]:
    table = open_table(pl.DataFrame({"time": values}), "interactions")
    return table.frame.select(microseconds(table, "time")[0]).collect().to_series().to_list()


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_datetimes_of_any_unit(unit: str) -> None:
    values = pl.Series([datetime(2024, 1, 31, 12)]).cast(pl.Datetime(unit))  # type: ignore[arg-type]
    assert read(values) == [NOON]


def test_datetimes_with_a_zone_become_utc() -> None:
    values = pl.Series([datetime(2024, 1, 31, 12)]).dt.replace_time_zone("Asia/Shanghai")
    assert read(values) == [NOON - 8 * 3_600_000_000]


def test_dates_begin_at_midnight() -> None:
    assert read(pl.Series([date(2024, 1, 31)])) == [NOON - 12 * 3_600_000_000]


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("2024-01-31T12:00:00", 0),
        ("2024-01-31 12:00:00", 0),
        ("2024-01-31 12:00:00.25", 250_000),
        ("2024-01-31T12:00:00Z", 0),
        ("2024-01-31T12:00:00+08:00", -8 * 3_600_000_000),
        ("2024-01-31 12:00:00+00:00", 0),
        ("2024-01-31 12:00:00 UTC", 0),
        ("2024-01-31 12:00", 0),
        ("2024-01-31", -12 * 3_600_000_000),
        ("2024/01/31", -12 * 3_600_000_000),
    ],
)
def test_iso_texts(text: str, offset: int) -> None:
    assert read(pl.Series([text, None, text])) == [NOON + offset, None, NOON + offset]


@pytest.mark.parametrize(
    ("scale", "unit"),
    [(1, "seconds"), (10**3, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")],
)
def test_numbers_are_read_by_their_size(scale: int, unit: str) -> None:
    values = pl.Series([NOON // 10**6 * scale])
    assert read(values) == [NOON]
    table = open_table(pl.DataFrame({"time": values}), "interactions")
    assert f"was read as {unit} since 1970" in str(microseconds(table, "time")[2])


@pytest.mark.parametrize(
    ("digits", "form", "offset"),
    [
        (20240131, "YYYYMMDD", -12 * 3_600_000_000),
        (202401311200, "YYYYMMDDhhmm", 0),
        (20240131120000, "YYYYMMDDhhmmss", 0),
    ],
)
@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.String], ids=str)
def test_digits_that_are_a_date(
    digits: int, form: str, offset: int, dtype: type[pl.DataType]
) -> None:
    values = pl.Series([digits, None, digits]).cast(dtype)
    if dtype == pl.String:
        values = pl.Series([str(digits), None, f" {digits} "])
    assert read(values) == [NOON + offset, None, NOON + offset]
    table = open_table(pl.DataFrame({"time": values}), "interactions")
    assert str(microseconds(table, "time")[2]).endswith(f"was read as dates written {form}")


def test_among_dates_as_digits_what_is_no_date_is_no_time() -> None:
    others = [20240231, 20241301, 0, 1_706_702_400, 2024013112]
    assert read(pl.Series([20240131] * 6 + others))[6:] == [None] * 5
    assert read(pl.Series([20240131.0, 20240131.0, 20240131.5]))[2] is None


def test_seconds_that_happen_to_look_like_a_date_are_seconds() -> None:
    seconds = [20_240_131, 20_249_999, 20_251_399, 1_706_702_400]
    assert read(pl.Series(seconds)) == [value * 1_000_000 for value in seconds]


def test_fractions_of_seconds() -> None:
    assert read(pl.Series([NOON / 1e6 + 0.5, float("nan")])) == [NOON + 500_000, None]


def test_a_type_that_is_no_time() -> None:
    with pytest.raises(DataError, match=r"column 'time' is of type Boolean; a timestamp is"):
        read(pl.Series([True]))


def test_settings_are_read_as_utc() -> None:
    assert parse_time("2024-01-31T12:00", "test_start") == NOON
    assert parse_time(date(2024, 1, 31), "test_start") == NOON - 12 * 3_600_000_000
    assert parse_time(datetime(2024, 1, 31, 12, tzinfo=UTC), "test_start") == NOON
    east = timezone(timedelta(hours=8))
    assert parse_time(datetime(2024, 1, 31, 20, tzinfo=east), "test_start") == NOON
    with pytest.raises(ConfigError, match="test_start: 'soon' is not an ISO date"):
        parse_time("soon", "test_start")


def test_times_are_shown_in_utc() -> None:
    assert show_time(NOON + 1) == "2024-01-31 12:00:00"
