"""Guardrails: what an arm must not make worse. Latency, errors, empty and short answers.

The unit is the query here too, since its requests resemble one another: rates and means are ratios
of sums over queries with their variance by the delta method, and the 99th percentile has the outer
interval of Deng et al. (KDD 2018), whose ends are percentiles themselves.
"""

from collections.abc import Sequence
from math import hypot, sqrt
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.stats import norm

from dualtower.config import Settings
from dualtower.experiments.observations import Floats
from dualtower.experiments.requests import Requests
from dualtower.experiments.sequential import always_valid_bound
from dualtower.experiments.statistics import holm

GuardrailName = Literal["mean_latency", "p99_latency", "errors", "empty", "short"]
Verdict = Literal[
    "worse", "perhaps worse", "no difference found", "perhaps better", "better", "too few to say"
]
NAMES: tuple[GuardrailName, ...] = get_args(GuardrailName)
TITLES: dict[GuardrailName, str] = {
    "mean_latency": "mean latency",
    "p99_latency": "99th percentile of latency",
    "errors": "errors",
    "empty": "empty answers",
    "short": "short answers",
}
SECONDS: tuple[GuardrailName, ...] = ("mean_latency", "p99_latency")
"""Those in seconds; the others are shares of requests."""
FEW_QUERIES = 100
"""With fewer in an arm nothing is concluded."""
FEW_FAULTS = 10
"""Of errors, empty or short answers: with fewer in both arms together, but some, nothing is
concluded."""
_ALPHA = 0.05
_Z = float(norm.isf(_ALPHA / 2))
_P99 = 0.99


class Figure(Settings):
    """One guardrail of one arm: seconds, or a share of the requests."""

    metric: GuardrailName
    value: float
    low: float
    """Lower end of the 95% interval."""
    high: float | None
    """Upper end; None where too few requests say it."""
    error: float | None
    """Standard error; None likewise."""
    count: int
    """Requests with the fault, or whose latency counts."""


class ArmRequests(Settings):
    """The requests of one arm."""

    arm: str
    queries: int
    requests: int
    figures: tuple[Figure, ...]
    """In the order of `NAMES`; those of latency lack where no request has one."""


class Difference(Settings):
    """One guardrail of one arm less the control's; more is worse."""

    arm: str
    metric: GuardrailName
    difference: float
    """In seconds, or in the share of requests."""
    low: float | None
    """Lower end of the 95% interval, for one look only; None where too few requests say it, or
    nothing varies in either arm."""
    high: float | None
    """Upper end."""
    p_value: float | None = Field(ge=0, le=1)
    """Two-sided, that nothing differs, for one look only."""
    p_corrected: float | None = Field(ge=0, le=1)
    """With Holm's correction over guardrails and arms."""
    verdict: Verdict
    """Worse or better: the always-valid bound is crossed, whenever it is looked at. Perhaps: only
    the corrected p-value says so, which holds for one look."""


class Guardrails(Settings):
    """All arms' requests, and the differences from the control."""

    arms: tuple[ArmRequests, ...]
    """The control first."""
    differences: tuple[Difference, ...]


def guard(requests: Requests, expected_queries: int) -> Guardrails | None:
    """Compare every arm's requests with the control's; None where the log has no requests.

    Args:
        requests: as logged.
        expected_queries: of all arms together by the end, for the always-valid bound.
    """
    if len(requests.query) == 0:
        return None
    arms = tuple(_arm(requests, place) for place in range(len(requests.arms)))
    differences = [_difference(arms[0], arm, metric) for arm in arms[1:] for metric in NAMES]
    found = [one for one in differences if one is not None]
    return Guardrails(arms=arms, differences=tuple(_corrected(found, arms, expected_queries)))


def unmeasured(requests: Requests) -> list[str]:
    """What a reader has to know of requests that the log does not describe."""
    if requests.unmeasured == 0:
        return []
    text = (
        f"{requests.unmeasured:,} exposures carry no latency and number asked for (an earlier "
        "version or another system wrote them), so "
    )
    if len(requests.query) == 0:
        return [f"{text}there are no guardrails."]
    return [f"{text}the guardrails are without them."]


def sentences(found: Guardrails) -> list[str]:
    """What may be concluded, a sentence for each arm and guardrail."""
    control = found.arms[0]
    by_arm = {arm.arm: arm for arm in found.arms}
    lines = []
    for one in found.differences:
        mine = _said(by_arm[one.arm], one.metric)
        line = f"{one.arm} against {control.arm}, {TITLES[one.metric]}: {mine} against "
        line += _said(control, one.metric)
        if one.low is not None and one.high is not None:
            low, high = _shown(one.metric, one.low, sign=True), one.high
            line += f" ({low} … {_shown(one.metric, high, sign=True)})"
        lines.append(f"{line}; {one.verdict}.")
    return lines


def table(found: Guardrails) -> list[list[str]]:
    """A header, and a row for each arm with every guardrail and its interval."""
    rows = [["arm", "queries", "requests", *(TITLES[name] for name in NAMES)]]
    for arm in found.arms:
        cells = {one.metric: _with_interval(one) for one in arm.figures}
        shown = [cells.get(name, "") for name in NAMES]
        rows.append([arm.arm, f"{arm.queries:,}", f"{arm.requests:,}", *shown])
    return rows


def ratio(numerator: Floats, denominator: Floats) -> tuple[float, float]:
    """A ratio of sums over queries, and its standard error by the delta method.

    Args:
        numerator: of each query, `[queries]`.
        denominator: of each query, `[queries]`; not all 0.

    Returns:
        Both; with one query the error is infinite.
    """
    count, total = len(numerator), float(denominator.sum())
    value = float(numerator.sum()) / total
    away = numerator - value * denominator
    if count < 2:
        return value, float("inf")
    return value, sqrt(count / (count - 1) * float(away @ away)) / total


def percentile(
    values: Floats, query: npt.NDArray[np.int64], level: float
) -> tuple[float, float, float | None]:
    """A percentile and its 95% interval (the outer one of Deng et al., KDD 2018).

    The share of values up to the percentile is a ratio over queries; the percentiles at that share
    plus and minus what the ratio may be off are the ends.

    Args:
        values: of requests, `[requests]`.
        query: the query of each, numbered from 0.
        level: between 0 and 1.

    Returns:
        The percentile (the smallest value that a share `level` does not exceed), the lower end,
        and the upper end; None where the log is too short to hold it.
    """
    value = float(np.quantile(values, level, method="inverted_cdf"))
    _, error = ratio(_sums(query, values <= value), _sums(query))
    # Not less than of independent requests: where the percentile is the largest value, 0 is found.
    error = max(error, sqrt(level * (1 - level) / len(values)))
    if not level + _Z * error < 1:
        return value, float(values.min()), None
    below = max(level - _Z * error, 0.0)
    low, high = np.quantile(values, [below, level + _Z * error], method="inverted_cdf")
    return value, float(low), float(high)


def _arm(requests: Requests, place: int) -> ArmRequests:
    mine = requests.arm == place
    _, query = np.unique(requests.query[mine], return_inverse=True)
    total = len(query)
    figures = []
    answered = ~requests.error[mine]
    if answered.any():
        seconds = requests.latency[mine][answered]
        _, answered_query = np.unique(query[answered], return_inverse=True)
        figures = [_mean(seconds, answered_query), _p99(seconds, answered_query)]
    if total:
        faults: tuple[tuple[GuardrailName, npt.NDArray[np.bool_]], ...] = (
            ("errors", requests.error),
            ("empty", requests.empty),
            ("short", requests.short),
        )
        figures += [_share(name, flags[mine], query) for name, flags in faults]
    return ArmRequests(
        arm=requests.arms[place],
        queries=int(query.max()) + 1 if total else 0,
        requests=total,
        figures=tuple(figures),
    )


def _mean(seconds: Floats, query: npt.NDArray[np.int64]) -> Figure:
    value, error = ratio(_sums(query, seconds), _sums(query))
    known = np.isfinite(error)
    return Figure(
        metric="mean_latency",
        value=value,
        low=max(value - _Z * error, 0.0),
        high=value + _Z * error if known else None,
        error=error if known else None,
        count=len(seconds),
    )


def _p99(seconds: Floats, query: npt.NDArray[np.int64]) -> Figure:
    value, low, high = percentile(seconds, query, _P99)
    error = None if high is None else (high - low) / (2 * _Z)
    return Figure(
        metric="p99_latency", value=value, low=low, high=high, error=error, count=len(seconds)
    )


def _share(
    name: GuardrailName, flags: npt.NDArray[np.bool_], query: npt.NDArray[np.int64]
) -> Figure:
    """A share of requests with Wilson's interval for as many independent ones as they are worth."""
    requests = _sums(query)
    value, error = ratio(_sums(query, flags), requests)
    known = np.isfinite(error)
    # Where nothing varies, how alike a query's requests are is not known: each query counts once.
    worth = value * (1 - value) / error**2 if known and error > 0 else float(len(requests))
    low, high = _wilson(value, worth)
    count = int(flags.sum())
    return Figure(
        metric=name, value=value, low=low, high=high, error=error if known else None, count=count
    )


def _wilson(rate: float, count: float) -> tuple[float, float]:
    share = _Z * _Z / count
    centre = rate + share / 2
    width = _Z * sqrt(rate * (1 - rate) / count + share / (4 * count))
    return max((centre - width) / (1 + share), 0.0), min((centre + width) / (1 + share), 1.0)


def _difference(control: ArmRequests, arm: ArmRequests, metric: GuardrailName) -> Difference | None:
    """Without correction and verdict."""
    one, other = _figure(control, metric), _figure(arm, metric)
    if one is None or other is None:
        return None
    size = other.value - one.value
    low = high = p_value = None
    if one.error is not None and other.error is not None:
        error = hypot(one.error, other.error)
        if error > 0:
            low, high = size - _Z * error, size + _Z * error
            p_value = float(2 * norm.sf(abs(size) / error))
        else:
            p_value = float(size == 0)
    return Difference(
        arm=arm.arm,
        metric=metric,
        difference=size,
        low=low,
        high=high,
        p_value=p_value,
        p_corrected=None,
        verdict="too few to say",
    )


def _corrected(
    found: Sequence[Difference], arms: Sequence[ArmRequests], expected_queries: int
) -> list[Difference]:
    """With Holm's correction over those that can be judged, and verdicts."""
    by_arm = {arm.arm: arm for arm in arms}
    judged = [
        place
        for place, one in enumerate(found)
        if one.p_value is not None and _enough(arms[0], by_arm[one.arm], one.metric)
    ]
    p_values = [found[place].p_value or 0.0 for place in judged]
    result = list(found)
    for place, p_value, corrected in zip(judged, p_values, holm(p_values), strict=True):
        one = found[place]
        queries = arms[0].queries + by_arm[one.arm].queries
        # By the p-value, so that it holds whatever the difference's scale.
        crossed = norm.isf(p_value / 2) > always_valid_bound(queries, expected_queries, _ALPHA)
        verdict = _verdict(one.difference > 0, bool(crossed), corrected < _ALPHA)
        result[place] = one.model_copy(update={"p_corrected": corrected, "verdict": verdict})
    return result


def _verdict(larger: bool, crossed: bool, unlikely: bool) -> Verdict:
    if crossed:
        return "worse" if larger else "better"
    if unlikely:
        return "perhaps worse" if larger else "perhaps better"
    return "no difference found"


def _enough(control: ArmRequests, arm: ArmRequests, metric: GuardrailName) -> bool:
    if min(control.queries, arm.queries) < FEW_QUERIES:
        return False
    if metric in SECONDS:
        return True
    figures = (*control.figures, *arm.figures)
    faults = sum(one.count for one in figures if one.metric == metric)
    return faults == 0 or faults >= FEW_FAULTS


def _figure(arm: ArmRequests, metric: GuardrailName) -> Figure | None:
    return next((one for one in arm.figures if one.metric == metric), None)


def _sums(query: npt.NDArray[np.int64], values: npt.NDArray[np.generic] | None = None) -> Floats:
    """Sums of values by query, or the numbers of requests, `[queries]`."""
    return np.bincount(query, weights=values).astype(np.float64)


def _shown(metric: GuardrailName, value: float, *, sign: bool = False) -> str:
    plus = "+" if sign else ""
    if metric in SECONDS:
        return f"{1000 * value:{plus}.3g} ms"
    return f"{100 * value:{plus}.2g}%"


def _with_interval(one: Figure) -> str:
    high = "?" if one.high is None else _shown(one.metric, one.high)
    return f"{_shown(one.metric, one.value)} ({_shown(one.metric, one.low)} … {high})"


def _said(arm: ArmRequests, metric: GuardrailName) -> str:
    one = _figure(arm, metric)
    assert one is not None
    if metric in SECONDS:
        return _shown(metric, one.value)
    return f"{one.count:,} of {arm.requests:,} ({_shown(metric, one.value)})"
