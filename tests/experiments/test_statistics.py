"""Estimates against a delta method written out here, tea-tasting on tables, and gbstats."""

import sys
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import tea_tasting as tt

from dualtower.errors import ConfigError
from dualtower.experiments import statistics
from dualtower.experiments.statistics import (
    Estimate,
    aggregate,
    check_library,
    compare,
    correct,
    sample_ratio,
)

Floats = npt.NDArray[np.float64]
Z = 1.959963984540054


def small(arm: int) -> tuple[Floats, Floats, Floats]:
    """Impressions, clicks and GMV of a few queries, without chance."""
    n = np.arange(60 + 5 * arm)
    impressions = 4.0 + (7 * n + arm) % 5
    clicks = (n * n + 3 * arm) % 4 + arm * (n % 3 == 0)
    return impressions, clicks.astype(float), 1.5 * ((n * 11) % 7) + arm * (n % 4)


def columns(arm: int) -> dict[str, Floats]:
    impressions, clicks, gmv = small(arm)
    n = np.arange(len(gmv))
    before = {
        "clicks_before": np.floor(clicks / 2) + n % 2,
        "impressions_before": impressions[::-1].copy(),
        "gmv_before": 0.5 * gmv + n % 5,
    }
    winsorised = {
        "gmv_winsorised": np.minimum(gmv, 8),
        "gmv_winsorised_before": np.minimum(before["gmv_before"], 6),
    }
    return {"impressions": impressions, "clicks": clicks, "gmv": gmv, **before, **winsorised}


def linearised(numerator: Floats, denominator: Floats) -> tuple[float, Floats]:
    """A ratio of sums, and each query's part in its error (the delta method, written out)."""
    ratio = numerator.sum() / denominator.sum()
    return ratio, (numerator - ratio * denominator) / denominator.mean()


def by_hand(first: tuple[float, float], second: tuple[float, float]) -> dict[str, float]:
    """Lift and 95% interval by the logarithm of the quotient, and z, from (value, variance)."""
    (control, control_variance), (treatment, treatment_variance) = first, second
    error = (control_variance / control**2 + treatment_variance / treatment**2) ** 0.5
    return {
        "control": control,
        "treatment": treatment,
        "lift": treatment / control - 1,
        "low": treatment / control * exp(-Z * error) - 1,
        "high": treatment / control * exp(Z * error) - 1,
        "z": (treatment - control) / (control_variance + treatment_variance) ** 0.5,
    }


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, bool], Estimate]:
    estimates = compare("new", aggregate(columns(0)), aggregate(columns(1)), cuped=True)
    return {(one.metric, one.cuped): one for one in estimates}


def test_ctr_is_the_delta_method_over_queries(found: dict[tuple[str, bool], Estimate]) -> None:
    arms = []
    for arm in (0, 1):
        ratio, parts = linearised(columns(arm)["clicks"], columns(arm)["impressions"])
        arms.append((ratio, parts.var(ddof=1) / len(parts)))
    for name, value in by_hand(*arms).items():
        assert getattr(found["ctr", False], name) == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("metric", ["gmv", "gmv_winsorised"])
def test_gmv_is_a_mean_over_queries(found: dict[tuple[str, bool], Estimate], metric: str) -> None:
    values = [columns(arm)[metric] for arm in (0, 1)]
    arms = [(value.mean(), value.var(ddof=1) / len(value)) for value in values]
    for name, value in by_hand(*arms).items():
        assert getattr(found[metric, False], name) == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("metric", ["ctr", "gmv"])
def test_cuped_takes_out_a_regression_on_what_was_before(
    found: dict[tuple[str, bool], Estimate], metric: str
) -> None:
    numerator, denominator = {"ctr": ("clicks", "impressions"), "gmv": ("gmv", "ones")}[metric]
    both = [{"ones": np.ones(60 + 5 * arm), **columns(arm)} for arm in (0, 1)]
    for arm in both:
        arm["ones_before"] = arm["ones"]
    pooled = {name: np.concatenate([arm[name] for arm in both]) for name in both[0]}

    def parts(arm: dict[str, Floats]) -> tuple[float, Floats, float, Floats]:
        now = linearised(arm[numerator], arm[denominator])
        return *now, *linearised(arm[f"{numerator}_before"], arm[f"{denominator}_before"])

    _, now, mean_before, before = parts(pooled)
    theta = np.cov(now, before)[0, 1] / before.var(ddof=1)
    arms = []
    for arm in both:
        value, now, value_before, before = parts(arm)
        adjusted = now - theta * before
        variance = adjusted.var(ddof=1) / len(adjusted)
        arms.append((value - theta * (value_before - mean_before), variance))
    for name, value in by_hand(*arms).items():
        assert getattr(found[metric, True], name) == pytest.approx(value, abs=1e-9), name


def test_the_figures_are_tea_tastings_on_the_table_itself(
    found: dict[tuple[str, bool], Estimate],
) -> None:
    table = pl.concat(
        pl.DataFrame(columns(arm)).with_columns(variant=pl.lit(arm)) for arm in (0, 1)
    )
    covariates = ("clicks_before", "impressions_before")
    metrics: dict[str, Any] = {
        "ctr": tt.RatioOfMeans("clicks", "impressions", *covariates, use_t=False),
        "gmv": tt.Mean("gmv", "gmv_before", use_t=False),
    }
    result = tt.Experiment(metrics).analyze(table, control=0)
    for name, expected in result.items():
        mine = found[name, True]  # type: ignore[index]
        assert mine.p_value == pytest.approx(expected.pvalue, rel=1e-9)  # type: ignore[attr-defined]
        assert (mine.lift, mine.low, mine.high) == pytest.approx(
            (
                expected.rel_effect_size,  # type: ignore[attr-defined]
                expected.rel_effect_size_ci_lower,  # type: ignore[attr-defined]
                expected.rel_effect_size_ci_upper,  # type: ignore[attr-defined]
            ),
            abs=1e-9,
        )


def test_values_and_variances_are_those_of_gbstats(
    found: dict[tuple[str, bool], Estimate],
) -> None:
    """As test_sequential: gbstats 0.8.0, `.stat_a.mean`, `.stat_b.mean` and `.variance`."""
    oracle = {
        "ctr": (0.08333333333333333, 0.31025641025641026, 0.0012911056067224582),
        "gmv": (4.45, 5.930769230769231, 0.31517466277203887),
    }
    for name, (control, treatment, variance) in oracle.items():
        mine = found[name, False]
        assert (mine.control, mine.treatment) == pytest.approx((control, treatment), abs=1e-6)
        error = (mine.treatment - mine.control) / mine.z
        assert error**2 == pytest.approx(variance, abs=1e-6)


def test_another_bound_gives_the_interval_of_its_level(
    found: dict[tuple[str, bool], Estimate],
) -> None:
    mine = found["ctr", False]
    same = mine.within(Z)
    assert (same.low, same.high) == pytest.approx((mine.low, mine.high), abs=1e-12)
    wider = mine.within(2 * Z)
    assert mine.logarithmic
    assert (1 + wider.high) / (1 + wider.low) == pytest.approx(
        ((1 + mine.high) / (1 + mine.low)) ** 2
    )
    assert mine.within(abs(mine.z) - 1e-9).significant
    assert not mine.within(abs(mine.z) + 1e-9).significant


def test_an_arm_without_a_click_is_compared() -> None:
    without = {**columns(1), "clicks": np.zeros(65), "gmv": np.zeros(65)}
    estimates = compare("new", aggregate(columns(0)), aggregate(without), cuped=True)
    (mine,) = (one for one in estimates if (one.metric, one.cuped) == ("ctr", False))
    value, parts = linearised(columns(0)["clicks"], columns(0)["impressions"])
    error = (parts.var(ddof=1) / len(parts)) ** 0.5
    assert (mine.treatment, mine.lift) == (0, -1)
    assert mine.z == pytest.approx(-value / error)
    assert (mine.low, mine.high) == pytest.approx((-1 - Z * error / value, -1 + Z * error / value))
    assert mine.within(Z).high == pytest.approx(mine.high)
    assert mine.within(abs(mine.z) - 1e-9).significant
    for one in estimates:
        assert one.within(3.0).low < one.low < one.lift < one.high < one.within(3.0).high


def with_gmv(gmv: Floats, before: Floats | None = None) -> dict[str, Floats]:
    """Queries of ten impressions and one or two clicks."""
    n = np.arange(len(gmv))
    now = {"impressions": np.full(len(n), 10.0), "clicks": 1.0 + n % 2}
    now |= {"gmv": gmv, "gmv_winsorised": gmv}
    if before is None:
        return now
    earlier = {"impressions_before": now["impressions"], "clicks_before": 1.0 + (n % 3 == 0)}
    return now | earlier | {"gmv_before": before, "gmv_winsorised_before": before}


@pytest.mark.parametrize(("orders", "z"), [(5, 1.6357), (7, 2.1269), (11, 2.9001)])
def test_a_control_of_one_order_has_the_difference_s_interval(orders: int, z: float) -> None:
    """k orders against one, among 1,000 queries each: the lift is k - 1, its error (k - 1) / z.

    z = (k - 1) / sqrt(k (1 - k / n) + 1 - 1 / n) · sqrt(1 - 1 / n).
    """
    arms = [np.where(np.arange(1_000) < count, 10.0, 0.0) for count in (1, orders)]
    estimates = compare("new", *(aggregate(with_gmv(arm)) for arm in arms), cuped=False)
    (mine,) = (one for one in estimates if one.metric == "gmv")
    assert mine.low > -1
    assert not mine.logarithmic
    assert mine.z == pytest.approx(z, abs=1e-4)
    for bound in (Z, z - 1e-3, z + 1e-3, 3.0):
        found = mine.within(bound)
        width = bound * (orders - 1) / mine.z
        assert (found.low, found.high) == pytest.approx((orders - 1 - width, orders - 1 + width))
        assert found.significant == (found.low > 0)
    assert (mine.within(Z).low, mine.within(Z).high) == pytest.approx((mine.low, mine.high))


def test_what_cannot_be_compared_is_left_out() -> None:
    nothing = {name: np.zeros_like(column) for name, column in columns(0).items()}
    assert compare("new", aggregate(nothing), aggregate(columns(1)), cuped=False) == []


def test_what_was_before_may_leave_nothing() -> None:
    """A metric that is a third of what it was before has no spread then, whatever its rounding."""
    for seed in range(50):
        gmv = np.random.default_rng(seed).gamma(1, 10, 200)
        arms = [aggregate(with_gmv(part, 3 * part)) for part in (gmv[:100], gmv[100:])]
        found = {(one.metric, one.cuped) for one in compare("new", *arms, cuped=True)}
        assert ("gmv", False) in found
        assert ("gmv", True) not in found


def test_a_metric_without_spread_is_left_out() -> None:
    """All that is shown is clicked: the error is 0, and rounded above it or below."""
    for seed in range(50):
        shown = np.random.default_rng(seed).integers(1, 30, (2, 100)).astype(float)
        arms = [with_gmv(gmv) | {"impressions": gmv, "clicks": gmv} for gmv in shown]
        found = {one.metric for one in compare("new", *map(aggregate, arms), cuped=False)}
        assert found == {"gmv", "gmv_winsorised"}


@pytest.mark.parametrize(("away", "there"), [(3e-6, False), (4e-6, True)])
def test_a_millionth_to_either_side_is_spread(away: float, there: bool) -> None:
    """50 queries of 1 - away and 50 of 1 + away in each arm: half the interval is .2786 · away.

    1.96 · sqrt(2 · away² · (100 / 99) / 100) = 1.96 · away / 7.0356, so .84 or 1.11 millionths.
    """
    gmv = 1 + away * np.tile([-1.0, 1.0], 50)
    found = compare("new", aggregate(with_gmv(gmv)), aggregate(with_gmv(gmv)), cuped=False)
    assert [one.metric for one in found] == ["ctr", *(["gmv", "gmv_winsorised"] * there)]


def test_holms_correction_by_hand() -> None:
    p_values = (0.03, 0.01, 0.02, 0.9)
    common = {"metric": "ctr", "control": 1.0, "treatment": 1.0, "lift": 0.0, "low": 0.0}
    common |= {"high": 0.0, "logarithmic": True, "z": 0.0, "queries": 9}
    estimates = [Estimate.model_validate({"arm": "b", "p_value": p, **common}) for p in p_values]
    corrected = [found.p_corrected for found in correct(estimates)]
    assert corrected == pytest.approx([0.06, 0.04, 0.06, 0.9])
    assert correct([]) == []


def test_sample_ratio_by_hand() -> None:
    """5,000 of 10,000 expected, sd 50: 100.5 off (less a half) is z = 2, p = .0455."""
    found = sample_ratio({"a": 4_899, "b": 5_101}, {"a": 1.0, "b": 1.0})
    assert found.p_value == pytest.approx(0.0444, abs=2e-4)
    assert found.verdict == "ok"
    assert found.expected == {"a": 0.5, "b": 0.5}
    assert sample_ratio({"a": 4_860, "b": 5_140}, {"a": 1, "b": 1}).verdict == "warning"
    assert sample_ratio({"a": 4_800, "b": 5_200}, {"a": 1, "b": 1}).verdict == "blocked"
    assert sample_ratio({"a": 4_800, "b": 5_200}, {"a": 12, "b": 13}).p_value == 1.0
    three = sample_ratio({"a": 4_899, "b": 5_101, "c": 5_000}, {"a": 1, "b": 1, "c": 1})
    assert three.p_value == pytest.approx(2 * 0.0444, abs=4e-4)


def test_without_the_library_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tea_tasting", None)
    monkeypatch.delitem(sys.modules, "tea_tasting.aggr")
    with pytest.raises(ConfigError, match=r"pip install 'dualtower\[experiments\]'"):
        check_library()
    assert statistics.METRICS[0].name == "ctr"
