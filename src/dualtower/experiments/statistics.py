"""Lift, interval and p-value of each metric between two arms, all by the library tea-tasting.

The unit is the query: its impressions are correlated, so a ratio such as clicks over impressions
has its variance by the delta method over queries (Deng et al., KDD 2018), never over impressions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, isfinite, log
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from dualtower.config import Settings
from dualtower.errors import ConfigError
from dualtower.experiments.observations import Floats

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics import RatioOfMeans

MetricName = Literal["ctr", "gmv", "gmv_winsorised"]
ALPHA = 0.05
_Z = 1.959963984540054
"""Of the two-sided 95% interval."""
_LEAST_WIDTH = 1e-6
"""Of half the difference's interval, over the control's value. What has no spread is narrower: of
its error, 0, only the rounding is left."""
WARN_BELOW, BLOCK_BELOW = 0.01, 0.001


@dataclass(frozen=True)
class Metric:
    """A quotient of two sums over queries, and the same before the start."""

    name: MetricName
    title: str
    numerator: str
    denominator: str | None
    """None: the number of queries."""
    numerator_before: str
    denominator_before: str | None


METRICS = (
    Metric("ctr", "CTR", "clicks", "impressions", "clicks_before", "impressions_before"),
    Metric("gmv", "GMV per query", "gmv", None, "gmv_before", None),
    Metric(
        "gmv_winsorised",
        "GMV per query, winsorised",
        "gmv_winsorised",
        None,
        "gmv_winsorised_before",
        None,
    ),
)


class Interval(Settings):
    """A range of the relative lift, and whether it leaves out 0."""

    low: float
    high: float
    significant: bool


class Estimate(Settings):
    """One metric of one arm against the control."""

    arm: str
    metric: MetricName
    cuped: bool = False
    """Whether what the queries did before the start was regressed out."""
    control: float
    """The metric's value in the control, adjusted with CUPED."""
    treatment: float
    """Its value in the arm."""
    lift: float
    """treatment / control - 1; -1 where the arm has none of it, about -1 then with CUPED."""
    low: float
    """Lower end of the 95% interval of the lift, for one look only."""
    high: float
    """Upper end."""
    logarithmic: bool
    """Whether the interval is of the logarithm of 1 + lift; where that is known to no better than a
    factor of e it is of the difference, over the control's value, and may reach below -1."""
    p_value: float = Field(ge=0, le=1)
    """Two-sided, that nothing differs, for one look only."""
    z: float
    """The difference over its standard error."""
    queries: int = Field(ge=2)
    """Of both arms together."""
    p_corrected: float | None = None
    """With Holm's correction over metrics and arms, where that was made."""
    planned: Interval | None = None
    """O'Brien and Fleming's, valid at each of the planned looks together."""
    always: Interval | None = None
    """Valid whenever and however often it is looked at."""
    always_p: float | None = None
    """The p-value that goes with it."""

    def within(self, bound: float) -> Interval:
        """The interval that a bound on |z| other than the 95% one gives.

        Whether it is significant is said by |z|, the test of the difference, as it is by p.
        """
        if self.logarithmic:
            width = bound * log((1 + self.high) / (1 + self.low)) / (2 * _Z)
            low, high = ((1 + self.lift) * float(np.exp(by)) - 1 for by in (-width, width))
        else:
            width = bound * (self.high - self.low) / (2 * _Z)
            low, high = self.lift - width, self.lift + width
        return Interval(low=low, high=high, significant=abs(self.z) > bound)


class SampleRatio(Settings):
    """Whether the arms got the queries that their weights promise."""

    queries: dict[str, int]
    """By arm."""
    expected: dict[str, float]
    """Each arm's share by the weights."""
    p_value: float = Field(ge=0, le=1)
    """Of the arm furthest from its share against the control, Bonferroni's correction over arms."""
    verdict: Literal["ok", "warning", "blocked"]
    """Warning below .01; below .001 no result is to be believed and none is given."""


@cache
def metric_of(metric: Metric, *, cuped: bool) -> "RatioOfMeans":
    """tea-tasting's metric: normal theory, unequal variances, 95%."""
    return _tea("metrics").RatioOfMeans(
        metric.numerator,
        metric.denominator,
        metric.numerator_before if cuped else None,
        metric.denominator_before if cuped else None,
        confidence_level=1 - ALPHA,
        use_t=False,
        equal_var=False,
    )


def aggregate(columns: Mapping[str, Floats]) -> "Aggregates":
    """Count, means, variances and covariances over the queries of one arm.

    Args:
        columns: sums of each query by name, `[queries]` each; at least two queries.
    """
    names = list(columns)
    matrix = np.stack([columns[name] for name in names])
    means, covariances = matrix.mean(axis=1), np.atleast_2d(np.cov(matrix))
    return _tea("aggr").Aggregates(
        count_=matrix.shape[1],
        mean_={name: float(means[row]) for row, name in enumerate(names)},
        var_={name: float(covariances[row, row]) for row, name in enumerate(names)},
        cov_={
            (first, second): float(covariances[row, column])
            for row, first in enumerate(names)
            for column, second in enumerate(names)
            if first < second
        },
    )


def compare(
    arm: str, control: "Aggregates", treatment: "Aggregates", *, cuped: bool
) -> list[Estimate]:
    """Every metric of an arm against the control, that has anything to compare.

    A metric without spread is left out: one whose difference's interval reaches less than a
    millionth of the control's value to either side. So is one with CUPED whose adjusted value in
    the control is not above 0, or in either arm too near 0; without CUPED it is there all the same.

    Args:
        arm: the name of the treatment.
        control: aggregates of the control's queries.
        treatment: aggregates of the arm's.
        cuped: also give each metric with what was before regressed out.
    """
    estimates = []
    for metric in METRICS:
        for adjusted in (False, True) if cuped else (False,):
            estimator = metric_of(metric, cuped=adjusted)
            needed = estimator.aggr_cols.mean_cols
            try:
                found = estimator.analyze_aggregates(
                    _only(control, needed), _only(treatment, needed)
                )
            except (OverflowError, ValueError):
                # An adjusted value so near 0 that the error of its logarithm has no exponential,
                # or a variance that is 0 and was rounded below it.
                continue
            lift, z = found.rel_effect_size, found.statistic
            low, high = found.rel_effect_size_ci_lower, found.rel_effect_size_ci_upper
            if found.control <= 0 or not isfinite(z):
                continue
            if found.effect_size_ci_upper - found.effect_size < _LEAST_WIDTH * found.control:
                continue
            # An arm without a click is the plainest result there is, and has no logarithm.
            logarithmic = found.treatment > 0 and 1 + high <= (1 + lift) * exp(_Z)
            if not logarithmic:
                low = lift + (found.effect_size_ci_lower - found.effect_size) / found.control
                high = lift + (found.effect_size_ci_upper - found.effect_size) / found.control
            if not all(map(isfinite, (lift, low, high))):
                continue
            estimates.append(
                Estimate(
                    arm=arm,
                    metric=metric.name,
                    cuped=adjusted,
                    control=found.control,
                    treatment=found.treatment,
                    lift=lift,
                    low=low,
                    high=high,
                    logarithmic=logarithmic,
                    p_value=found.pvalue,
                    z=z,
                    queries=control.count() + treatment.count(),
                )
            )
    return estimates


def correct(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The estimates with Holm's correction over all of them."""
    corrected = holm([found.p_value for found in estimates])
    return [
        found.model_copy(update={"p_corrected": p_value})
        for found, p_value in zip(estimates, corrected, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values with Holm's correction over all of them, in their order.

    Nothing is assumed on how they depend on one another.

    Raises:
        ConfigError: tea-tasting is not installed.
    """
    if not p_values:
        return []
    results = {
        number: _tea("experiment").ExperimentResult({"p": {"pvalue": p_value}})
        for number, p_value in enumerate(p_values)
    }
    corrected = _tea("multiplicity").adjust_fwer(
        results, alpha=ALPHA, arbitrary_dependence=True, method="bonferroni"
    )
    by_number = {row["comparison"]: row["pvalue_adj"] for row in corrected.to_dicts()}
    return [min(1.0, float(by_number[str(number)])) for number in range(len(p_values))]


def sample_ratio(queries: Mapping[str, int], expected: Mapping[str, float]) -> SampleRatio:
    """Compare the number of queries in each arm with what the weights promise.

    Args:
        queries: how many each arm has; the first is the control.
        expected: each arm's share, in any scale.
    """
    aggregates = {arm: _tea("aggr").Aggregates(count_=count) for arm, count in queries.items()}
    control, *others = queries
    p_values = [
        _tea("metrics").SampleRatio(dict(expected)).analyze(aggregates, control, arm).pvalue
        for arm in others
        if queries[control] + queries[arm] > 0
    ]
    p_value = min([1.0, *(len(others) * p for p in p_values)])
    verdict: Literal["ok", "warning", "blocked"] = "ok"
    if p_value < WARN_BELOW:
        verdict = "blocked" if p_value < BLOCK_BELOW else "warning"
    total = sum(expected.values())
    return SampleRatio(
        queries=dict(queries),
        expected={arm: share / total for arm, share in expected.items()},
        p_value=p_value,
        verdict=verdict,
    )


@dataclass(frozen=True)
class Solved:
    """A lift and how many queries of two arms together find it."""

    lift: float
    queries: float


def solve_power(
    metric: Literal["ctr", "gmv"],
    past: "Aggregates",
    *,
    ratio: float,
    power: float,
    lift: float | None = None,
    queries: int | None = None,
) -> Solved:
    """What one look at two arms finds with the given probability.

    Args:
        metric: which one.
        past: aggregates of queries as they will come.
        ratio: queries of the arm over those of the control.
        power: the probability.
        lift: the relative difference, to solve for the queries; or
        queries: of both arms together, to solve for the lift.
    """
    columns = next((one.numerator, one.denominator) for one in METRICS if one.name == metric)
    estimator = _tea("metrics").RatioOfMeans(
        *columns,
        alpha=ALPHA,
        use_t=False,
        ratio=ratio,
        power=power,
        rel_effect_size=lift,
        n_obs=queries,
    )
    wanted = "rel_effect_size" if lift is None else "n_obs"
    (found,) = estimator.solve_power_from_aggregates(past, wanted)
    return Solved(lift=found.rel_effect_size, queries=found.n_obs)


def check_library() -> None:
    """Check that the estimates can be made, before the work that they are for.

    Raises:
        ConfigError: tea-tasting is not installed.
    """
    _tea("aggr")


def _only(whole: "Aggregates", names: Sequence[str]) -> "Aggregates":
    """The aggregates of a few columns; adding up those of all takes most of an analysis' time."""
    return _tea("aggr").Aggregates(
        count_=whole.count(),
        mean_={name: whole.mean(name) for name in names},
        var_={name: whole.var(name) for name in names},
        cov_={(one, two): whole.cov(one, two) for one in names for two in names if one < two},
    )


def _tea(module: str) -> Any:
    """A module of tea-tasting, whose import takes more than a second."""
    from importlib import import_module

    try:
        return import_module(f"tea_tasting.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("tea_tasting"):
            raise
        raise ConfigError(
            "experiments need tea-tasting: pip install 'dualtower[experiments]'"
        ) from None
