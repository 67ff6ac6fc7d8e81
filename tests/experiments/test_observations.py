"""Sums per query and day, worked out by hand, and what becomes of odd rows."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dualtower.errors import DataError
from dualtower.experiments.observations import Observations, query_sums, read_observations

Row = tuple[Any, str, str | None, str, str, float | None]
ROWS: list[Row] = [
    ("u1", "e", "a", "exposure", "2024-05-01 23:59:59", 10),
    ("u1", "e", "a", "click", "2024-05-02 00:00:00", 0),
    ("u1", "e", None, "order", "2024-05-03 10:00:00", 7.5),
    ("u1", "e", "a", "exposure", "2024-05-03 09:00:00", 4),
    ("u2", "e", "b", "exposure", "2024-05-02 08:00:00", None),
    ("u2", "e", "b", "order", "2024-05-02 09:00:00", 2.0),
    ("u2", "e", "b", "order", "2024-05-02 09:00:00", 3.0),
]
COLUMNS = ["query_id", "experiment", "arm", "kind", "timestamp", "value"]


def frame(rows: list[Row], **more: Any) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=COLUMNS, orient="row").with_columns(
        *(pl.Series(name, values) for name, values in more.items())
    )


def read(rows: list[Row], before: Any = None, **more: Any) -> Observations:
    return read_observations(frame(rows, **more), "e", ("a", "b"), before=before)


def test_sums_by_query_and_day() -> None:
    found = read(ROWS)
    assert found.arm.tolist() == [0, 1]
    assert found.exposed.tolist() == [0, 1]
    assert found.impressions.tolist() == [[10, 0, 4], [0, 1, 0]]
    assert found.clicks.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert found.orders.tolist() == [[0, 0, 1], [0, 2, 0]]
    assert found.gmv.tolist() == [[0, 0, 7.5], [0, 5, 0]]
    assert (found.days, found.first_day, found.date(2)) == (3, "2024-05-01", "2024-05-03")
    assert set(found.left_out.model_dump().values()) == {0}


def test_the_order_of_rows_and_the_type_of_ids_change_nothing() -> None:
    numbered = [({"u1": 1, "u2": 2}[row[0]], *row[1:]) for row in reversed(ROWS)]
    found, expected = read(numbered), read(ROWS)
    for name in ("arm", "exposed", "impressions", "clicks", "orders", "gmv"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_files_and_lazy_frames_are_read_alike(tmp_path: Path) -> None:
    frame(ROWS).write_csv(tmp_path / "events.csv")
    frame(ROWS).write_parquet(tmp_path / "events.parquet")
    for source in (tmp_path / "events.csv", tmp_path / "events.parquet", frame(ROWS).lazy()):
        found = read_observations(source, "e", ("a", "b"))
        assert found.gmv.tolist() == [[0, 0, 7.5], [0, 5, 0]]


def test_a_repeated_event_id_counts_once_and_the_earliest_row_is_it() -> None:
    later = ("u2", "e", "b", "order", "2024-05-03 12:00:00", 99.0)
    found = read([later, *ROWS], event_id=["7", *"1234567"])
    assert found.gmv.tolist() == [[0, 0, 7.5], [0, 5, 0]]
    assert found.left_out.repeated == 1


def test_without_event_ids_rows_that_are_alike_all_count() -> None:
    assert read([*ROWS, ROWS[-1]]).gmv[1, 1] == 8


def test_a_query_in_two_arms_is_left_out_whole() -> None:
    found = read([*ROWS, ("u2", "e", "a", "click", "2024-05-02 10:00:00", None)])
    assert found.arm.tolist() == [0]
    assert found.left_out.crossed_queries == 1


def test_what_no_exposure_can_have_caused_is_left_out() -> None:
    found = read(
        [
            *ROWS,
            ("u2", "e", "b", "click", "2024-05-02 07:59:59", None),
            ("u3", "e", "b", "order", "2024-05-02 10:00:00", 1.0),
            ("u4", "other", "x", "what", "2024-05-02 10:00:00", -1.0),
        ]
    )
    assert found.clicks.sum() == 1
    assert found.gmv.sum() == 12.5
    left_out = found.left_out
    assert (left_out.early, left_out.unexposed_queries, left_out.elsewhere) == (1, 1, 1)


def test_what_queries_did_before_joins_by_id() -> None:
    before = pl.DataFrame(
        {
            "query_id": ["u2", "u2", "u2", "u9"],
            "kind": ["exposure", "click", "order", "order"],
            "value": [20.0, 2.0, 5.5, 1.0],
        }
    )
    found = read(ROWS, before=before).before
    assert found is not None
    assert found.impressions.tolist() == [0, 20]
    assert found.clicks.tolist() == [0, 2]
    assert found.gmv.tolist() == [0, 5.5]
    assert query_sums(before)["orders"].to_list() == [1, 1]


def test_the_unit_of_time_is_that_of_the_experiments_own_rows() -> None:
    seconds = frame(ROWS).with_columns(
        pl.col("timestamp").str.to_datetime().dt.epoch("s").cast(pl.Float64)
    )
    clicked = ("u9", None, None, "click", 1_714_600_000_000.0, None)
    foreign = pl.DataFrame([clicked], schema=seconds.schema, orient="row")
    found = read_observations(pl.concat([foreign, seconds]), "e", ("a", "b"))
    assert found.impressions.tolist() == [[10, 0, 4], [0, 1, 0]]
    assert found.first_day == "2024-05-01"
    assert found.notes == ("events (in memory): column 'timestamp' was read as seconds since 1970",)


def test_what_queries_did_in_the_experiment_is_not_what_they_did_before() -> None:
    # One store holds both, so it may be named for both.
    earlier: list[Row] = [
        ("u2", "other", "x", "exposure", "2024-04-30 10:00:00", 6),
        ("u2", "other", "x", "click", "2024-05-01 23:59:58", None),
        ("u1", "other", "x", "click", "2024-05-01 23:59:59", None),  # the first exposure's second
    ]
    found = read(ROWS, before=frame([*earlier, *ROWS]))
    assert found.before is not None
    assert found.before.impressions.tolist() == [0, 6]
    assert found.before.clicks.tolist() == [0, 1]
    assert found.before.gmv.tolist() == [0, 0]
    assert found.notes == (
        "8 rows of the table of the time before are from the experiment's first exposure on, and "
        "are left out of it.",
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((None, "e", "a", "click", "2024-05-01 10:00:00", None), "row 8, column 'query_id'"),
        (
            ("u", "e", "c", "click", "2024-05-01 10:00:00", None),
            "'c' is not an arm .* a, b",
        ),
        (("u", "e", None, "exposure", "2024-05-01 10:00:00", None), "column 'arm'"),
        (("u", "e", "a", "view", "2024-05-01 10:00:00", None), "exposure, click or order"),
        (("u", "e", "a", "order", "2024-05-01 10:00:00", None), "an order needs its worth"),
        (("u", "e", "a", "order", "2024-05-01 10:00:00", -1.0), "column 'value': -1.0"),
        (("u", "e", "a", "order", "2024-05-01 10:00:00", float("nan")), "column 'value': nan"),
        (("u", "e", "a", "order", "yesterday", 1.0), "column 'timestamp': 'yesterday'"),
    ],
)
def test_a_row_that_is_not_as_it_should_be(row: Row, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read([*ROWS, row])


def test_tables_that_cannot_be_read() -> None:
    with pytest.raises(DataError, match=r"no column 'kind'\..*rename its columns"):
        read_observations(frame(ROWS).drop("kind"), "e", ("a", "b"))
    with pytest.raises(DataError, match="there is no column 'value'"):
        read_observations(frame(ROWS).drop("value"), "e", ("a", "b"))
    with pytest.raises(DataError, match="must hold numbers"):
        read_observations(frame(ROWS).with_columns(value=pl.lit("much")), "e", ("a", "b"))
    with pytest.raises(DataError, match="event_id"):
        read(ROWS, event_id=[*"123456", None])
    with pytest.raises(DataError, match="no query has an exposure in one arm of experiment 'x'"):
        read_observations(frame(ROWS), "x", ("a", "b"))
    with pytest.raises(DataError, match="span 8,766 days"):
        read([*ROWS, ("u1", "e", "a", "click", "2048-04-30 10:00:00", None)])
