from datetime import date, datetime

import numpy as np
import polars as pl
import pytest

from dualtower.config import SplitConfig
from dualtower.data import arrays
from dualtower.data.dataset import Dataset, Log
from dualtower.data.splits import leave_last_out, split, split_by_column
from dualtower.errors import ConfigError, DataError
from dualtower.schema import Schema
from tests.helpers import tiny_dataset


def targets(log: Log) -> list[list[int]]:
    return [
        log.dataset.items[start:end].tolist() for start, end in zip(log.start, log.end, strict=True)
    ]


def test_leave_last_out() -> None:
    dataset = tiny_dataset([[1, 2, 3, 4], [2, 3], [4, 1, 2], [1]])
    parts = dataset.leave_last_out()
    assert targets(parts.train) == [[], [1, 2], [2, 3], [4], [1]]
    assert targets(parts.validation) == [[], [3], [], [1], []]
    assert targets(parts.test) == [[], [4], [], [2], []]
    assert parts.test.corpus.tolist() == [1, 2, 3, 4]
    assert parts.test.requests(np.array([1])).history.values.tolist() == [1, 2, 3]
    assert targets(dataset.leave_last_out(min_events=4).test) == [[], [4], [], [], []]


def test_leave_last_out_needs_three_events() -> None:
    with pytest.raises(DataError, match="no query has 3 events or more"):
        leave_last_out(tiny_dataset([[1, 2], [3]]))
    with pytest.raises(ConfigError, match="min_events is 2; leave-last-out needs at least 3"):
        leave_last_out(tiny_dataset([[1, 2, 3]]), min_events=2)


def test_leave_last_out_refuses_logs_that_a_split_column_ordered() -> None:
    dataset = with_split(["train", "test", "test", "train", "test"])
    with pytest.raises(DataError, match=r"leave out columns\.split to leave the last out"):
        dataset.leave_last_out()


def dated() -> Dataset:
    """Query 1 on days 1, 2, 3, 4 of January 2024; query 2 on days 3, 4 (23:59) and 4."""
    days = ["01T10", "02T00", "03T12", "04T08", "03T09", "04T23", "04T01"]
    return Dataset.from_frames(
        pl.DataFrame(
            {
                "user_id": [1, 1, 1, 1, 2, 2, 2],
                "item_id": [1, 2, 3, 4, 5, 6, 1],
                "timestamp": [f"2024-01-{day}:00:00" for day in days],
            }
        )
    )


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_by_time_with_dates(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(arrays, "CHUNK_EVENTS", chunk)
    parts = dated().by_time("2024-01-04", "2024-01-03")
    assert targets(parts.train) == [[], [1, 2], []]
    assert targets(parts.validation) == [[], [3], [5]]
    assert targets(parts.test) == [[], [4], [1, 6]]
    for log in (parts.train, parts.validation):
        assert log.corpus.tolist() == [1, 2]
    for log in (parts.train_and_validation, parts.test):
        assert log.corpus.tolist() == [1, 2, 3, 5]


def test_by_time_with_days_counts_whole_days_back_from_the_last() -> None:
    by_days = dated().by_time(test_days=1, validation_days=1)
    by_dates = dated().by_time(date(2024, 1, 4), datetime(2024, 1, 3))
    for one, other in zip(
        (by_days.train, by_days.validation, by_days.test),
        (by_dates.train, by_dates.validation, by_dates.test),
        strict=True,
    ):
        assert targets(one) == targets(other)


def test_by_time_without_validation_leaves_it_empty() -> None:
    parts = dated().by_time("2024-01-04T08:00:00")
    assert parts.validation.event_count == 0
    assert targets(parts.test) == [[], [4], [6]]
    assert parts.train.corpus.tolist() == [1, 2, 3, 5]


def test_by_time_says_what_is_wrong() -> None:
    dataset = dated()
    exist = "the events are from 2024-01-01 10:00:00 to 2024-01-04 23:00:00"
    with pytest.raises(DataError, match=f"no events in the test period .*; {exist}"):
        dataset.by_time("2025-01-01")
    with pytest.raises(DataError, match=f"no events before 2024-01-01 00:00:00 .*; {exist}"):
        dataset.by_time("2024-01-01")
    with pytest.raises(DataError, match="no events in the validation period"):
        dataset.by_time("2024-01-04T01:00", "2024-01-03T20:00")
    with pytest.raises(ConfigError, match="validation must begin before the test"):
        dataset.by_time("2024-01-03", "2024-01-03")
    with pytest.raises(ConfigError, match="needs test_start or test_days"):
        dataset.by_time()
    with pytest.raises(ConfigError, match="test_start or test_days, not both"):
        dataset.by_time("2024-01-03", test_days=1)
    for days in (0, 10**12):
        with pytest.raises(ConfigError, match=f"test_days: {days} given; .* from 1 to 100,000"):
            dataset.by_time(test_days=days)
    with pytest.raises(DataError, match="has no timestamps"):
        tiny_dataset([[1, 2, 3]]).by_time("2024-01-01")


def with_split(marks: list[str], **columns: list[int]) -> Dataset:
    frame = pl.DataFrame(
        {"user_id": [1, 1, 1, 2, 2], "item_id": [1, 2, 3, 3, 1], "split": marks, **columns}
    )
    timestamp = "timestamp" if columns else None
    return Dataset.from_frames(frame, schema=Schema(split="split", timestamp=timestamp))


@pytest.mark.parametrize("chunk", [1, 1000])
def test_by_column(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(arrays, "CHUNK_EVENTS", chunk)
    parts = with_split(["train", "valid", "test", "test", "train"]).by_column()
    assert targets(parts.train) == [[], [1], [1]]
    assert targets(parts.validation) == [[], [2], []]
    assert targets(parts.test) == [[], [3], [3]]
    assert parts.train.corpus.tolist() == [1, 2, 3]


def test_by_column_says_what_is_wrong() -> None:
    with pytest.raises(DataError, match="column 'split' marks no event as test"):
        with_split(["train"] * 5).by_column()
    with pytest.raises(DataError, match="column 'split' marks no event as train"):
        with_split(["test"] * 5).by_column()
    with pytest.raises(DataError, match="has no split column"):
        tiny_dataset([[1]]).by_column()


def test_by_time_refuses_logs_that_a_split_column_put_out_of_time() -> None:
    times = [3 * 10**9, 2 * 10**9, 10**9, 10**9, 2 * 10**9]
    dataset = with_split(["train", "valid", "test", "train", "test"], timestamp=times)
    with pytest.raises(DataError, match=r"leave out columns\.split to split by time"):
        dataset.by_time("2010-01-01")
    ordered = with_split(
        ["train", "valid", "test", "train", "test"], timestamp=times[2::-1] + times[3:]
    )
    assert ordered.by_time("2010-01-01").test.event_count == 3


def test_the_configuration_chooses() -> None:
    dataset = dated()
    assert targets(split(dataset, SplitConfig()).test) == targets(dataset.leave_last_out().test)
    by_time = split(dataset, SplitConfig(by="time", test_days=2))
    assert targets(by_time.test) == targets(dataset.by_time(test_days=2).test)
    with pytest.raises(DataError, match="has no split column"):
        split(dataset, SplitConfig(by="column"))


def test_by_column_holds_a_share_of_the_training_events_out() -> None:
    dataset = with_split(["train", "train", "test", "train", "test"])
    parts = split(dataset, SplitConfig(by="column", validation_share=0.1))
    assert targets(parts.train) == [[], [1], [3]]  # one event of two, and none of a single one
    assert targets(parts.validation) == [[], [2], []]
    assert targets(parts.test) == [[], [3], [1]]
    assert targets(parts.train_and_validation) == [[], [1, 2], [3]]


def test_a_share_of_ten_events_is_rounded_up() -> None:
    frame = pl.DataFrame(
        {
            "user_id": [1] * 11,
            "item_id": list(range(11)),
            "split": ["train"] * 10 + ["test"],
        }
    )
    dataset = Dataset.from_frames(frame, schema=Schema(split="split"))
    for share, held in ((0.1, 1), (0.11, 2), (0.5, 5), (0.99, 9)):
        assert split_by_column(dataset, share).validation.event_count == held


def test_a_share_beside_marked_validation_events_is_refused() -> None:
    dataset = with_split(["train", "valid", "test", "train", "test"])
    with pytest.raises(DataError, match="column 'split' marks validation events itself"):
        split_by_column(dataset, 0.1)
    with pytest.raises(ConfigError, match="validation_share: 1 given"):
        split_by_column(dataset, 1)
