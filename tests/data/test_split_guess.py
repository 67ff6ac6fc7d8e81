from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dualtower.config import SplitConfig, load_config
from dualtower.data.config_text import config_text
from dualtower.data.discover import discover
from dualtower.data.prepare import prepare
from dualtower.data.splits import split
from dualtower.schema import Schema


def log(events_per_user: list[int], times: pl.Series | None = None) -> pl.DataFrame:
    """A row per event; by default one every six hours from 2024-01-01 on, users mixed."""
    users = np.repeat(np.arange(len(events_per_user)), events_per_user)
    users = np.random.default_rng(0).permutation(users)
    start = datetime(2024, 1, 1)
    hours = [start + timedelta(hours=6 * place) for place in range(len(users))]
    frame = pl.DataFrame({"user_id": users, "item_id": np.arange(len(users)) % 7 + 100})
    return frame.with_columns(timestamp=pl.Series(hours) if times is None else times)


def guessed(folder: Path, frame: pl.DataFrame) -> tuple[SplitConfig, dict[str, str]]:
    path = folder / "log.parquet"
    frame.write_parquet(path)
    guess = discover([path])
    return guess.config.split, guess.reasons


def test_with_long_logs_the_last_events_are_left_out(tmp_path: Path) -> None:
    found, reasons = guessed(tmp_path, log([3] * 40))
    assert found == SplitConfig(by="leave_last_out")
    assert "only" not in reasons["split.by"]


def test_where_hardly_a_query_has_three_events_the_split_is_by_time(tmp_path: Path) -> None:
    # 99 users of two events and one of three: 201 events, four a day. The lower quantiles are
    # events 160 and 180 of 0 … 200, on the days 40 and 45 after the first.
    found, reasons = guessed(tmp_path, log([2] * 99 + [3]))
    expected = SplitConfig(by="time", validation_start="2024-02-10", test_start="2024-02-15")
    assert found == expected
    assert "only 1 of 100 queries have 3 events or more" in reasons["split.by"]


def test_a_day_as_digits_is_time_enough(tmp_path: Path) -> None:
    days = pl.Series([20240101 + place // 10 for place in range(200)])
    found, _ = guessed(tmp_path, log([2] * 100, days))
    assert found.by == "time"
    assert (found.validation_start, found.test_start) == ("2024-01-16", "2024-01-18")


def test_within_a_day_the_parts_begin_at_a_second(tmp_path: Path) -> None:
    minutes = pl.Series([datetime(2024, 1, 1) + timedelta(minutes=n) for n in range(200)])
    found, _ = guessed(tmp_path, log([2] * 100, minutes))
    assert found.validation_start == "2024-01-01 02:39:00"
    assert found.test_start == "2024-01-01 02:59:00"


def test_without_times_or_with_one_time_it_says_what_is_missing(tmp_path: Path) -> None:
    found, reasons = guessed(tmp_path, log([2] * 100).drop("timestamp"))
    assert found == SplitConfig(by="leave_last_out")
    assert "only 0 of 100 queries" in reasons["split.by"]
    assert "with a column of times" in reasons["split.by"]
    once = pl.Series([datetime(2024, 1, 1)] * 200)
    found, reasons = guessed(tmp_path, log([2] * 100, once))
    assert found == SplitConfig(by="leave_last_out")
    assert "only 0 of 100 queries" in reasons["split.by"]


def test_where_few_queries_are_tested_it_says_so(tmp_path: Path) -> None:
    found, reasons = guessed(tmp_path, log([2] * 80 + [4] * 20))
    assert found == SplitConfig(by="leave_last_out")
    assert "only 20 of 100 queries have 3 events or more" in reasons["split.by"]


@pytest.mark.parametrize("digits", [False, True])
def test_the_configuration_runs_as_it_is(tmp_path: Path, digits: bool) -> None:
    frame = log([2] * 100)
    if digits:
        day = pl.col("timestamp").dt.strftime("%Y%m%d").cast(pl.Int64)
        frame = frame.with_columns(timestamp=day)
    path, output = tmp_path / "log.csv", tmp_path / "dualtower.toml"
    frame.write_csv(path)
    output.write_text(config_text(discover([path]), output), encoding="utf-8")
    config = load_config(output)
    assert config.columns == Schema(timestamp="timestamp")
    parts = split(prepare(config, progress=False), config.split)
    sizes = [part.event_count for part in (parts.train, parts.validation, parts.test)]
    assert sum(sizes) == 200
    assert 150 <= sizes[0] <= 165
    assert all(15 <= size <= 30 for size in sizes[1:])
