import errno
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dualtower.data.vocabulary import Vocabulary


def test_rows_from_one_and_zero_for_the_unknown() -> None:
    vocabulary = Vocabulary(pl.Series(["b", "a", "c"]))
    assert len(vocabulary) == 4
    assert vocabulary.encode(pl.Series(["c", "x", None, "b"])).tolist() == [3, 0, 0, 1]
    assert vocabulary.decode(np.array([0, 2, 2])).to_list() == [None, "a", "a"]


def test_values_of_another_type_only_where_nothing_is_lost() -> None:
    numbers = Vocabulary(pl.Series([12, 7]))
    assert numbers.encode(pl.Series(["12", "x", "7"])).tolist() == [1, 0, 2]
    assert numbers.encode(pl.Series([12.0, 12.5, None, float("nan")])).tolist() == [1, 0, 0, 0]
    assert numbers.encode(pl.Series([7], dtype=pl.Int8)).tolist() == [2]
    assert numbers.encode(pl.Series([[12]])).tolist() == [0]
    assert numbers.encode(pl.Series([None])).tolist() == [0]
    small = Vocabulary(pl.Series([12, 7], dtype=pl.Int8))
    assert small.encode(pl.Series([12, 268, -244])).tolist() == [1, 0, 0]
    texts = Vocabulary(pl.Series(["12", "7"]))
    assert texts.encode(pl.Series([7, 8])).tolist() == [2, 0]
    iso = Vocabulary(pl.Series(["2024-05-01", "2024-05-03"]))
    asked = pl.Series([date(2024, 5, 3), date(2024, 5, 2), None, date(2024, 5, 1)])
    assert iso.encode(asked).tolist() == [2, 0, 0, 1]
    days = Vocabulary(pl.Series([date(2024, 5, 1)]))
    assert days.encode(pl.Series([date(2024, 5, 1), date(2024, 5, 2)])).tolist() == [1, 0]


MORNING = datetime(2024, 5, 1, 6, 30)


@pytest.mark.parametrize(
    ("value", "dtype", "texts"),
    [
        (True, pl.Boolean, ["true"]),
        (date(2024, 5, 1), pl.Date, ["2024-05-01"]),
        (time(6, 30), pl.Time, ["06:30:00", "06:30"]),
        (MORNING, pl.Datetime("us"), ["2024-05-01T06:30:00", "2024-05-01 06:30:00.000000"]),
        (
            MORNING.replace(tzinfo=UTC),
            pl.Datetime("ms", "Europe/Zurich"),
            ["2024-05-01T08:30:00+02:00", "2024-05-01T06:30:00Z"],
        ),
    ],
)
def test_texts_of_values_that_are_no_texts(value: Any, dtype: Any, texts: list[str]) -> None:
    vocabulary = Vocabulary(pl.Series([value], dtype=dtype))
    shown = vocabulary.values.cast(pl.String).to_list()
    assert vocabulary.encode(pl.Series([*texts, *shown])).tolist() == [1] * (len(texts) + 1)
    others = pl.Series(["", "yes", "True", "2024-05", "2024-05-02", "06:31", None])
    assert vocabulary.encode(others).tolist() == [0] * 7
    assert vocabulary.encode(pl.Series([0, 5])).tolist() == [0, 0]


def test_a_time_with_a_zone_is_none_without() -> None:
    vocabulary = Vocabulary(pl.Series([MORNING]))
    assert vocabulary.encode(pl.Series(["2024-05-01T06:30:00Z"])).tolist() == [0]
    days = Vocabulary(pl.Series([date(2024, 5, 1)]))
    assert days.encode(pl.Series([datetime(2024, 5, 1), MORNING])).tolist() == [1, 0]


def test_a_time_that_the_type_does_not_hold_is_unknown() -> None:
    moments = Vocabulary(pl.Series([MORNING.replace(tzinfo=UTC)]))
    texts = ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"]
    assert moments.encode(pl.Series(texts)).tolist() == [0, 0]
    clocks = Vocabulary(pl.Series([time(6, 30)]))
    assert clocks.encode(pl.Series(["06:30+02:00", "06:30Z"])).tolist() == [0, 0]


def test_truth_and_numbers() -> None:
    flags = Vocabulary(pl.Series([False, True]))
    assert flags.encode(pl.Series([0, 1, 2])).tolist() == [1, 2, 0]
    assert flags.encode(pl.Series([True, None])).tolist() == [2, 0]
    assert Vocabulary(pl.Series([7, 1])).encode(pl.Series([True, False])).tolist() == [2, 0]
    assert Vocabulary(pl.Series(["true"])).encode(pl.Series([True, False])).tolist() == [1, 0]
    assert Vocabulary(pl.Series([b"x"])).encode(pl.Series([date(2024, 5, 1)])).tolist() == [0]


@pytest.mark.parametrize("text", [True, False])
def test_a_few_values_of_many(text: bool) -> None:
    numbers = np.random.default_rng(0).permutation(20_000) * 2
    values = pl.Series(numbers)
    vocabulary = Vocabulary(values.cast(pl.String) if text else values)
    wanted = pl.Series([int(numbers[19_999]), -1, 39_999, 1, None, int(numbers[5]), 99_999_999])
    asked = wanted.cast(pl.String) if text else wanted
    assert vocabulary.encode(asked).tolist() == [20_000, 0, 0, 0, 0, 6, 0]
    assert vocabulary.encode(asked[:0]).tolist() == []
    assert vocabulary.encode(asked.clear(n=1)).tolist() == [0]
    everything = vocabulary.encode(vocabulary.values)
    assert everything.tolist() == list(range(1, 20_001))


@pytest.mark.parametrize("name", ["run", "run [2]"])
def test_saved_and_loaded(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    Vocabulary(pl.Series([3, 1])).save(tmp_path / name / "values.parquet")
    loaded = Vocabulary.load(tmp_path / name / "values.parquet")
    assert loaded.encode(pl.Series([1, 3])).tolist() == [2, 1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_reported() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        Vocabulary(pl.Series(["a", "b"])).save(Path("/dev/full"))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")
