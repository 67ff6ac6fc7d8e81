"""Bounds against published tables, simulation, and gbstats on fixed data."""

import numpy as np
import pytest
from scipy.stats import norm

from dualtower.experiments.sequential import (
    always_valid_bound,
    always_valid_p,
    crossing,
    obrien_fleming_bound,
    obrien_fleming_constant,
    obrien_fleming_inflation,
)


@pytest.mark.parametrize(
    ("looks", "constant"),
    [(1, 1.960), (2, 1.977), (3, 2.004), (4, 2.024), (5, 2.040), (7, 2.063), (10, 2.087)],
)
def test_constants_are_those_of_jennison_and_turnbull(looks: int, constant: float) -> None:
    """Their Table 2.3, two-sided α = .05."""
    assert obrien_fleming_constant(looks) == pytest.approx(constant, abs=5e-4)


def test_bounds_of_the_looks_and_none_after_them() -> None:
    bounds = [obrien_fleming_bound(look, 4) for look in range(1, 6)]
    expected = [2.024 * (4 / look) ** 0.5 for look in range(1, 5)]
    assert bounds[:4] == pytest.approx(expected, abs=1e-3)
    assert bounds[4] is None


@pytest.mark.parametrize(("looks", "drift"), [(7, 0.0), (3, 2.8)])
def test_crossing_is_what_walks_do(looks: int, drift: float) -> None:
    constant = obrien_fleming_constant(looks)
    steps = np.random.default_rng(0).normal(drift / looks**0.5, 1, size=(200_000, looks))
    z = steps.cumsum(axis=1) / np.sqrt(np.arange(1, looks + 1))
    bounds = [obrien_fleming_bound(look, looks) for look in range(1, looks + 1)]
    rate = (np.abs(z) > np.array(bounds)).any(axis=1).mean()
    assert rate == pytest.approx(crossing(looks, constant, drift), abs=4 * 0.5 / 200_000**0.5)


def test_one_look_is_the_normal_test() -> None:
    expected = norm.sf(1.96 - 2) + norm.cdf(-1.96 - 2)
    assert crossing(1, 1.96, 2.0) == pytest.approx(expected, abs=1e-12)
    assert obrien_fleming_inflation(1, 0.05, 0.8) == pytest.approx(1.0, abs=1e-9)


def test_inflation_is_that_of_jennison_and_turnbull() -> None:
    """Their Table 2.4, α = .05, power .8 and .9."""
    assert obrien_fleming_inflation(5, 0.05, 0.8) == pytest.approx(1.028, abs=5e-4)
    assert obrien_fleming_inflation(2, 0.05, 0.9) == pytest.approx(1.007, abs=5e-4)


@pytest.mark.parametrize(
    ("difference", "variance", "expected", "low", "high", "p_value"),
    [
        # Values of gbstats 0.8.0's SequentialTwoSidedTTest (absolute, alpha .05), by
        # python of a separate environment with gbstats==0.8.0 and numpy<2:
        #   SequentialTwoSidedTTest(a, b, SequentialConfig(difference_type="absolute",
        #     traffic_proportion_b=.5, phase_length_days=1, alpha=.05,
        #     sequential_tuning_parameter=expected)).confidence_interval, .p_value
        # on the arms of test_statistics.small(0) and small(1), 60 and 65 queries: CTR as
        # RatioStatistic, then GMV as SampleMeanStatistic.
        (
            *(0.31025641025641026 - 0.08333333333333333, 0.0012911056067224582, 125),
            *(0.11786207491705232, 0.3359840789291016, 6.082832335587616e-08),
        ),
        (
            *(0.31025641025641026 - 0.08333333333333333, 0.0012911056067224582, 5000),
            *(0.007523194820420159, 0.4463229590257337, 0.04031572173866995),
        ),
        (
            *(5.930769230769231 - 4.45, 0.31517466277203887, 125),
            *(-0.22320980914862965, 3.1847482706870913, 0.13612300815379721),
        ),
        (
            *(5.930769230769231 - 4.45, 0.31517466277203887, 5000),
            *(-1.947154532875678, 4.90869299441414, 0.6154535141364187),
        ),
    ],
)
def test_always_valid_is_that_of_gbstats(
    difference: float, variance: float, expected: int, low: float, high: float, p_value: float
) -> None:
    error = variance**0.5
    width = always_valid_bound(125, expected) * error
    assert (difference - width, difference + width) == pytest.approx((low, high), abs=1e-9)
    assert always_valid_p(difference / error, 125, expected) == pytest.approx(p_value, rel=1e-6)


@pytest.mark.parametrize("queries", [10, 1_000, 100_000])
def test_the_always_valid_p_is_alpha_where_the_bound_is_crossed(queries: int) -> None:
    bound = always_valid_bound(queries, 5_000)
    assert always_valid_p(bound, queries, 5_000) == pytest.approx(0.05, rel=1e-9)
    assert always_valid_p(0.0, queries, 5_000) == 1.0


def test_the_always_valid_interval_is_tightest_where_expected() -> None:
    """Width is bound / √t; at that t no other choice of `expected` gives a narrower one."""
    at_choice = always_valid_bound(5_000, 5_000)
    assert at_choice < always_valid_bound(5_000, 1_000)
    assert at_choice < always_valid_bound(5_000, 25_000)


def test_always_valid_holds_on_long_walks() -> None:
    z = np.random.default_rng(1).normal(size=(1_000, 3_000)).cumsum(axis=1)
    z /= np.sqrt(np.arange(1, 3_001))
    bounds = np.array([always_valid_bound(t, 1_000) for t in range(1, 3_001)])
    assert (np.abs(z) > bounds).any(axis=1).mean() < 0.05
    assert (np.abs(z) > 1.96).any(axis=1).mean() > 0.5


def test_a_bound_that_stands_still_holds_for_a_year_of_days() -> None:
    """A fixed panel: the bound is at its least from the first day on, and each day is news."""
    bounds = [always_valid_bound(queries, 5_000) for queries in range(10, 100_000, 10)]
    least = min(bounds)
    assert least == pytest.approx(3.035, abs=1e-3)
    walks = np.random.default_rng(2).normal(size=(10_000, 365)).cumsum(axis=1)
    crossed = np.abs(walks) > least * np.sqrt(np.arange(1, 366))
    for days, rate in ((7, 0.011), (30, 0.021), (365, 0.044)):
        found = crossed[:, :days].any(axis=1).mean()
        assert found == pytest.approx(rate, abs=4 * (rate / 10_000) ** 0.5)
