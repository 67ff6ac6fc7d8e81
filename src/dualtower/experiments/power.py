"""Before the start: how many queries find a lift, and which lift so many queries find."""

from typing import Any, Literal

import numpy as np

from dualtower.config import Settings
from dualtower.errors import ConfigError, DataError
from dualtower.experiments.assignment import Experiment
from dualtower.experiments.observations import query_sums
from dualtower.experiments.sequential import obrien_fleming_inflation
from dualtower.experiments.statistics import ALPHA, aggregate, solve_power


class Power(Settings):
    """What a planned experiment can find."""

    metric: Literal["ctr", "gmv"]
    baseline: float
    """The metric in the past log."""
    past_queries: int
    """How many queries that log has."""
    power: float
    """The probability to find the lift, if there is one."""
    lift: float
    """The relative difference that is found."""
    queries: int
    """Of all arms together, with one look at the end."""
    queries_planned: int
    """Of all arms together, with a look a day within the planned bounds."""
    days: int
    """How many looks are planned."""


def plan_power(
    past: Any,
    experiment: Experiment,
    *,
    metric: Literal["ctr", "gmv"] | None = None,
    lift: float | None = None,
    queries: int | None = None,
    power: float = 0.8,
) -> Power:
    """Solve for the queries that a lift needs, or for the lift that so many queries find.

    The past log has to be as long as the experiment will be: twice the days show each query twice
    as often. It holds for the arm with the fewest queries, against the control, without CUPED.

    Args:
        past: table of past exposures, clicks and orders, as `query_sums` takes it.
        experiment: says weights, planned days and, without `metric`, the primary metric.
        metric: which one.
        lift: the smallest relative difference worth finding; or
        queries: how many will be in the experiment, of all arms together.
        power: wanted probability to find it.

    Raises:
        ConfigError: both or neither of lift and queries, or a value out of range.
        DataError: the past log cannot be read, or is too small or empty of what is measured.
    """
    if (lift is None) == (queries is None):
        raise ConfigError("power: name either --lift or --queries, and the other is solved for")
    if lift is not None and not 0 < abs(lift) < 10:
        raise ConfigError(f"--lift: {lift} given; it must be a share such as 0.05, and not 0")
    if queries is not None and queries < 10:
        raise ConfigError(f"--queries: {queries} given; it must be 10 or more")
    if not ALPHA < power < 1:
        raise ConfigError(f"--power: {power} given; it must be between {ALPHA} and 1")
    name = metric or experiment.primary
    sums = query_sums(past)
    if name == "ctr":
        sums = sums.filter(sums["impressions"] > 0)
    numerator = "clicks" if name == "ctr" else "gmv"
    if len(sums) < 2 or float(sums[numerator].sum()) <= 0 or _is_constant(sums[numerator]):
        raise DataError(
            f"past events: {len(sums)} queries with {sums[numerator].sum():g} {numerator} in all; "
            "more are needed to know how much they vary"
        )
    columns = {column: sums[column].to_numpy() for column in ("impressions", "clicks", "gmv")}
    shares = experiment.shares
    control = shares[experiment.control.name]
    smallest = min(share for arm, share in shares.items() if arm != experiment.control.name)
    pair = control + smallest
    found = solve_power(
        name,
        aggregate(columns),
        ratio=smallest / control,
        power=power,
        lift=lift,
        queries=None if queries is None else round(queries * pair),
    )
    inflation = obrien_fleming_inflation(experiment.days, ALPHA, power)
    needed = found.queries / pair if queries is None else queries
    denominator = columns["impressions"].sum() if name == "ctr" else len(sums)
    return Power(
        metric=name,
        baseline=float(columns[numerator].sum() / denominator),
        past_queries=len(sums),
        power=power,
        lift=found.lift,
        queries=int(np.ceil(needed)),
        queries_planned=int(np.ceil(needed * inflation)),
        days=experiment.days,
    )


def _is_constant(values: Any) -> bool:
    return bool(values.n_unique() == 1)
