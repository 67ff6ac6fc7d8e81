"""The report's figures by a delta method of our own, for thousands of simulated weeks.

tea-tasting takes milliseconds for each figure, most of them for making distribution objects. The
benchmark checks on many of its weeks that the report says the same to 1e-9.
"""

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from dualtower.experiments.observations import Observations
from dualtower.experiments.report import Report
from dualtower.experiments.sequential import always_valid_bound, obrien_fleming_bound
from dualtower.experiments.statistics import ALPHA

Floats = npt.NDArray[np.float64]
METRICS = ("ctr", "gmv", "gmv_winsorised")
NAMES = tuple(name + cuped for name in METRICS for cuped in ("", " cuped"))
"""Metrics in the report's order."""
_IMPRESSIONS, _CLICKS, _GMV, _WINSORISED = range(4)
_COLUMNS = 4
_Z = float(norm.isf(ALPHA / 2))


@dataclass(frozen=True)
class Figures:
    """A week's figures of the treatment against the control, `[looks, metrics]` (`NAMES`)."""

    lift: Floats
    low: Floats
    high: Floats
    z: Floats
    planned: Floats
    """The planned bound on |z| at each look, `[looks]`."""
    always: Floats
    """The always-valid bound at each look, `[looks]`."""


@dataclass(frozen=True)
class _Moments:
    """Count, means and covariances of the queries' columns."""

    count: int
    means: Floats
    covariances: Floats


def figures(observations: Observations, winsorise: float, expected: int) -> Figures:
    """The cumulative figures after each day.

    Args:
        observations: of two arms, with a time before.
        winsorise: quantile at which GMV is cut.
        expected: number of queries at which the always-valid bound is tightest.
    """
    before = observations.before
    if before is None or len(observations.arms) != 2:
        raise ValueError("figures: two arms and a time before are needed")
    earlier = (before.impressions, before.clicks, before.gmv, _cut(before.gmv, winsorise))
    sums = [
        np.cumsum(part, axis=1)
        for part in (observations.impressions, observations.clicks, observations.gmv)
    ]
    rows, planned, always = [], [], []
    for day in range(observations.days):
        now = [part[:, day] for part in sums]
        matrix = np.stack([*now, _cut(now[_GMV], winsorise), *earlier])
        seen = observations.exposed <= day
        arms = [_moments(matrix[:, seen & (observations.arm == place)]) for place in (0, 1)]
        both = _moments(matrix[:, seen])
        rows.append(
            [_against(arms, both, metric, cuped) for metric in range(3) for cuped in (0, 1)]
        )
        bound = obrien_fleming_bound(day + 1, observations.days, ALPHA)
        planned.append(np.inf if bound is None else bound)
        always.append(always_valid_bound(int(seen.sum()), expected, ALPHA))
    lift, low, high, z = np.moveaxis(np.array(rows), 2, 0)
    return Figures(lift, low, high, z, np.array(planned), np.array(always))


def largest_difference(mine: Figures, report: Report) -> float:
    """The largest difference between the figures and the report's, 0 where they are the same."""
    largest = 0.0
    for look, row in enumerate(report.cumulative):
        for place, found in enumerate(row.estimates):
            if found.metric + (" cuped" if found.cuped else "") != NAMES[place]:
                return float("inf")
            for name in ("lift", "low", "high", "z"):
                own = float(getattr(mine, name)[look, place])
                largest = max(largest, abs(own - getattr(found, name)))
            for interval, bounds in ((found.planned, mine.planned), (found.always, mine.always)):
                significant = abs(mine.z[look, place]) > bounds[look]
                if interval is None or interval.significant != significant:
                    return float("inf")
    return largest


def _against(
    arms: list[_Moments], both: _Moments, metric: int, cuped: int
) -> tuple[float, float, float, float]:
    """Lift, its 95% interval, and z."""
    theta, centre = _regression(both, metric) if cuped else (0.0, 0.0)
    values, variances = [], []
    for arm in arms:
        value, gradient = _quotient(arm.means, metric, 0)
        value_before, gradient_before = _quotient(arm.means, metric, _COLUMNS)
        slope = gradient - theta * gradient_before
        values.append(value - theta * (value_before - centre))
        variances.append(float(slope @ arm.covariances @ slope) / arm.count)
    control, treatment = values
    width = _Z * sqrt(variances[0] / control**2 + variances[1] / treatment**2)
    ratio = treatment / control
    z = (treatment - control) / sqrt(sum(variances))
    return ratio - 1, ratio * exp(-width) - 1, ratio * exp(width) - 1, z


def _moments(matrix: Floats) -> _Moments:
    means = matrix.mean(axis=1)
    centred = matrix - means[:, None]
    count = matrix.shape[1]
    return _Moments(count, means, centred @ centred.T / (count - 1))


def _regression(both: _Moments, metric: int) -> tuple[float, float]:
    """The slope of a metric on what was before, and the mean of that, over both arms."""
    _, gradient = _quotient(both.means, metric, 0)
    centre, gradient_before = _quotient(both.means, metric, _COLUMNS)
    spread = gradient_before @ both.covariances @ gradient_before
    return float(gradient @ both.covariances @ gradient_before / spread), centre


def _quotient(means: Floats, metric: int, start: int) -> tuple[float, Floats]:
    """A metric and its gradient by the columns' means, which start at `start`."""
    gradient = np.zeros(2 * _COLUMNS)
    if metric:
        place = start + (_GMV, _WINSORISED)[metric - 1]
        gradient[place] = 1.0
        return float(means[place]), gradient
    shown, clicked = means[start + _IMPRESSIONS], means[start + _CLICKS]
    gradient[start + _CLICKS], gradient[start + _IMPRESSIONS] = 1 / shown, -clicked / shown**2
    return float(clicked / shown), gradient


def _cut(gmv: Floats, quantile: float) -> Floats:
    ordered = gmv[gmv > 0]
    return np.minimum(gmv, np.quantile(ordered, quantile)) if len(ordered) else gmv
