"""The short form of the experiments benchmark: what fails and what holds, over some weeks."""

import pytest
from scipy.stats import binomtest

from benchmarks.experiments import LIFTED, NOTHING, Row, row, scenario, skewed, wilson

RUNS = 300


def rates(rows: list[Row]) -> dict[tuple[object, object], int]:
    return {
        (row["procedure"], row["metric"]): round(float(row["rate"]) * int(row["runs"]))
        for row in rows
    }


def test_with_no_difference_only_the_naive_ways_find_one() -> None:
    found = rates(scenario(NOTHING, RUNS, 1_000, 5))
    for (procedure, metric), count in found.items():
        if procedure == "one look":
            assert binomtest(count, RUNS, 0.05).pvalue > 1e-3, metric
        if procedure in ("planned looks", "always valid"):
            assert binomtest(count, RUNS, 0.05, "greater").pvalue > 1e-3, metric
    assert binomtest(found["naive peeking", "ctr"], RUNS, 0.05, "greater").pvalue < 1e-3
    assert binomtest(found["naive z on impressions", "ctr"], RUNS, 0.05, "greater").pvalue < 1e-3


def test_the_planted_lift_is_in_the_interval() -> None:
    found = rates(scenario(LIFTED, 100, 1_000, 5))
    for metric in ("ctr", "ctr cuped", "gmv", "gmv cuped"):
        assert binomtest(found["lift in the interval", metric], 100, 0.95).pvalue > 1e-3, metric


def test_the_sample_ratio_finds_what_the_normal_approximation_says() -> None:
    """52% of 10,000 is 4 standard deviations off: beyond 2.576 in .922, beyond 3.29 in .761."""
    found = {(row["scenario"], row["procedure"]): row["rate"] for row in skewed(20_000)}
    of_all = "52/48 of 10,000 queries"
    assert found[of_all, "sample ratio, p < 0.01"] == pytest.approx(0.92, abs=0.01)
    assert found[of_all, "sample ratio, p < 0.001"] == pytest.approx(0.757, abs=0.012)


def test_a_row_says_whether_its_bar_is_kept() -> None:
    assert row(NOTHING, "one look", "ctr", 50, 1_000)["kept"] == "yes"
    assert row(NOTHING, "one look", "ctr", 61, 1_000)["kept"] == "no"
    assert row(NOTHING, "naive peeking", "ctr", 200, 1_000)["kept"] == ""


def test_the_interval_of_a_rate_is_wilsons() -> None:
    interval = binomtest(7, 40).proportion_ci(method="wilson")
    assert wilson(7, 40) == pytest.approx((interval.low, interval.high))
