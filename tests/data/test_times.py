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
