"""Queries that a lift needs, by the textbook's formula, and back again."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from dualtower.errors import ConfigError, DataError
from dualtower.experiments.assignment import Arm, Experiment
from dualtower.experiments.power import plan_power
from dualtower.experiments.sequential import obrien_fleming_inflation
from dualtower.experiments.simulator import Plan, events_of, simulate


def planned(weight: float = 1.0) -> Experiment:
    arms = (Arm(name="a", bundle="x"), Arm(name="b", weight=weight, bundle="y"))
    return Experiment(name="e", salt="s", arms=arms)


@pytest.fixture(scope="module")
def past() -> pl.DataFrame:
    return events_of(simulate(Plan(queries=3_000), np.random.default_rng(0)), "old")


def sums(past: pl.DataFrame, kind: str) -> np.ndarray:
    found = past.group_by("query_id").agg(pl.col("value").filter(pl.col("kind") == kind).sum())
    return found.sort("query_id")["value"].to_numpy()


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("metric", ["ctr", "gmv"])
def test_the_textbooks_formula(past: pl.DataFrame, metric: Any, weight: float) -> None:
    """n_control = σ²(1 + 1/r)(z_.975 + z_.9)² / δ², with r the arm's queries per control's."""
    if metric == "ctr":
        shown, clicks = sums(past, "exposure"), sums(past, "click")
        mean = clicks.sum() / shown.sum()
        variance = ((clicks - mean * shown) / shown.mean()).var(ddof=1)
    else:
        gmv = sums(past, "order")
        mean, variance = gmv.mean(), gmv.var(ddof=1)
    z = norm.ppf(0.975) + norm.ppf(0.9)
    expected = (1 + weight) * variance * (1 + 1 / weight) * z**2 / (0.05 * mean) ** 2
    found = plan_power(past, planned(weight), metric=metric, lift=0.05, power=0.9)
    assert found.baseline == pytest.approx(mean)
    assert found.queries == pytest.approx(expected, rel=1e-3)
    inflation = obrien_fleming_inflation(7, 0.05, 0.9)
    assert found.queries_planned == pytest.approx(expected * inflation, rel=1e-3)
    back = plan_power(past, planned(weight), metric=metric, queries=found.queries, power=0.9)
    assert back.lift == pytest.approx(0.05, rel=1e-3)


def test_the_smallest_arm_decides(past: pl.DataFrame) -> None:
    three = planned().model_copy(
        update={"arms": (*planned().arms, Arm(name="c", weight=0.25, bundle="z"))}
    )
    pair = plan_power(past, planned(0.25), lift=0.05).queries
    assert plan_power(past, three, lift=0.05).queries == pytest.approx(pair * 2.25 / 1.25, rel=1e-3)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "either --lift or --queries"),
        ({"lift": 0.1, "queries": 100}, "either --lift or --queries"),
        ({"lift": 0.0}, "--lift: 0.0 given"),
        ({"queries": 2}, "--queries: 2 given"),
        ({"lift": 0.1, "power": 1.0}, "--power: 1.0 given"),
    ],
)
def test_what_cannot_be_asked(past: pl.DataFrame, wanted: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_power(past, planned(), **wanted)


def test_a_past_without_clicks(past: pl.DataFrame) -> None:
    with pytest.raises(DataError, match="with 0 clicks in all"):
        plan_power(past.filter(pl.col("kind") == "exposure"), planned(), lift=0.1)
