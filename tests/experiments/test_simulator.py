"""The simulator: its rates are the model's, and its log adds up to its sums."""

import numpy as np
import polars as pl
import pytest

from dualtower.experiments.observations import read_observations
from dualtower.experiments.simulator import (
    ClickModel,
    Lift,
    Plan,
    events_before,
    events_of,
    simulate,
)


def test_rates_are_those_of_the_model() -> None:
    """Means worked out by hand, within five standard errors."""
    plan = Plan(
        queries=60_000,
        shares={"a": 1.0, "b": 3.0},
        lifts={"b": Lift(clicks=0.2, orders=0.1, value=-0.5)},
    )
    found = simulate(plan, np.random.default_rng(0))
    b = found.arm == 1
    assert b.mean() == pytest.approx(0.75, abs=0.01)
    impressions, clicks, orders = (
        getattr(found, name).sum(axis=1) for name in ("impressions", "clicks", "orders")
    )
    assert impressions.sum() / 60_000 == pytest.approx(0.6 * 7 * 10, rel=0.03)
    assert clicks[~b].sum() / impressions[~b].sum() == pytest.approx(0.06, rel=0.04)
    assert clicks[b].sum() / impressions[b].sum() == pytest.approx(0.06 * 1.2, rel=0.03)
    assert orders[b].sum() / clicks[b].sum() == pytest.approx(0.15 * 1.1, rel=0.03)
    assert found.gmv[~b].sum() / orders[~b].sum() == pytest.approx(30, rel=0.06)
    assert found.gmv[b].sum() / orders[b].sum() == pytest.approx(15, rel=0.06)
    assert plan.lifts["b"].gmv == pytest.approx(1.2 * 1.1 * 0.5 - 1)
    assert plan.lifts["b"].ctr == 0.2


def test_impressions_of_a_query_are_correlated_and_as_before() -> None:
    found = simulate(Plan(queries=20_000), np.random.default_rng(1))
    assert found.before is not None
    often = (found.impressions.sum(axis=1) >= 40) & (found.before.impressions >= 40)
    now = (found.clicks.sum(axis=1) / np.maximum(found.impressions.sum(axis=1), 1))[often]
    before = (found.before.clicks / np.maximum(found.before.impressions, 1))[often]
    assert np.corrcoef(now, before)[0, 1] > 0.5
    shown = found.impressions.sum(axis=1)[often].mean()
    assert now.var() > 2 * 0.06 * 0.94 / shown


def test_without_spread_all_queries_are_alike() -> None:
    model = ClickModel(activity_spread=0, value_spread=0, click_concentration=1e9)
    found = simulate(Plan(queries=20_000, model=model), np.random.default_rng(2))
    shown, clicks = found.impressions.sum(axis=1), found.clicks.sum(axis=1)
    assert ((clicks - 0.06 * shown) ** 2).sum() == pytest.approx(
        0.06 * 0.94 * shown.sum(), rel=0.05
    )


def test_the_log_adds_up_to_the_same_sums() -> None:
    found = simulate(Plan(queries=300), np.random.default_rng(4))
    events = events_of(found, "e")
    read = read_observations(events, "e", found.arms, before=events_before(found))
    order = np.argsort(found.query_ids.cast(pl.String).to_numpy())
    assert read.query_ids.to_list() == found.query_ids.cast(pl.String).sort().to_list()
    assert len(found.query_ids) < 300
    assert read.first_day == found.first_day
    for name in ("arm", "exposed", "impressions", "clicks", "gmv"):
        np.testing.assert_allclose(getattr(read, name), getattr(found, name)[order])
    assert read.before is not None
    assert found.before is not None
    np.testing.assert_allclose(read.before.gmv, found.before.gmv[order])


def test_a_seed_gives_the_same_experiment_and_arms_may_be_given() -> None:
    plan = Plan(queries=200, days_before=0)
    first, second = (simulate(plan, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.gmv, second.gmv)
    assert first.before is None
    assert events_before(first).is_empty()
    assigned = simulate(plan, np.random.default_rng(5), arm=[1] * 200)
    assert set(assigned.arm) == {1}


def test_plans_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="'c' is no arm; they are control, treatment"):
        Plan(lifts={"c": Lift()})
    with pytest.raises(ValueError, match="must be above 0"):
        Plan(shares={"a": 0.0, "b": 1.0})
