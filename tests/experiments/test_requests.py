"""From logs to requests, new logs and old."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from dualtower.errors import DataError
from dualtower.experiments.observations import query_sums, read_observations
from dualtower.experiments.requests import read_requests


def log(**columns: Any) -> pl.DataFrame:
    rows: dict[str, Any] = {
        "query_id": ["u", "u", "v", "w", "w", "x", "x", "y", "z"],
        "experiment": [*["e"] * 8, "other"],
        "arm": ["a", "a", "b", "b", "b", "a", "b", "a", "a"],
        "kind": [
            *("exposure", "click", "empty", "error", "exposure", "exposure", "exposure"),
            *("exposure", "exposure"),
        ],
        "timestamp": range(1_700_000_000, 1_700_000_009),
        "value": [10.0, 1, 0, 0, 7, 10, 10, 10, 10],
        "latency": [0.001, None, 0.002, 0.003, 0.004, 0.1, 0.1, None, 0.2],
        "asked": [10, None, 10, None, 10, 10, 10, None, 10],
    }
    return pl.DataFrame({**rows, **columns})


def test_requests_of_a_log() -> None:
    found = read_requests(log(), "e", ("a", "b"))
    # x is in two arms, y's exposure has no latency, z is of another experiment.
    assert found.query.tolist() == [0, 1, 2, 2]
    assert found.arm.tolist() == [0, 1, 1, 1]
    assert found.latency.tolist() == [0.001, 0.002, 0.003, 0.004]
    assert found.error.tolist() == [False, False, True, False]
    assert found.empty.tolist() == [False, True, False, False]
    assert found.short.tolist() == [False, True, False, True]
    assert found.unmeasured == 1


def test_requests_that_showed_nothing_enter_no_sum() -> None:
    found = read_observations(log().filter(pl.col("query_id") != "x"), "e", ("a", "b"))
    assert found.query_ids.to_list() == ["u", "w", "y"]
    assert found.impressions.sum() == 27
    assert found.left_out.model_dump() == {
        **dict.fromkeys(("repeated", "crossed_queries", "unexposed_queries", "early"), 0),
        "elsewhere": 1,
    }
    assert query_sums(log())["query"].to_list() == ["u", "w", "x", "y", "z"]


def test_a_log_of_an_earlier_version_has_no_requests() -> None:
    old = log().drop("latency", "asked").filter(pl.col("kind").is_in(["exposure", "click"]))
    found = read_requests(old, "e", ("a", "b"))
    assert (len(found.query), found.unmeasured) == (0, 5)


def test_repeated_events_count_once() -> None:
    ids = ["1", "2", "3", "4", "4", "6", "7", "8", "9"]
    found = read_requests(log(event_id=ids), "e", ("a", "b"))
    assert found.query.tolist() == [0, 1, 2]
    assert found.error.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"latency": [-1.0] * 9}, "row 1, column 'latency': -1.0 is no time"),
        ({"latency": [np.inf] * 9}, "column 'latency': inf is no time"),
        ({"latency": ["soon"] * 9}, "column 'latency': 'soon' is no time"),
        ({"asked": [0] * 9}, "column 'asked': 0 is no number of items"),
        ({"arm": [None] * 9}, "column 'arm': None is not an arm"),
        ({"kind": ["view"] * 9}, "column 'kind': 'view' is not a kind"),
    ],
)
def test_a_row_that_is_not_as_it_should_be(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_requests(log(**columns), "e", ("a", "b"))
    with pytest.raises(DataError, match="experiment"):
        read_requests(log().drop("experiment"), "e", ("a", "b"))
