"""Bootstrap over queries: how sure a mean is, and whether two models differ.

More than 32,768 queries are first dealt at random into so many groups of equal size, and groups are
drawn in their place. A mean of groups varies as the mean of their queries does: the standard error
is estimated with a relative error of 1 / √(2 · 32,768) = 0.4%, or about 1% where one query in a
thousand has all of the metric, as much as 10,000 samples leave. Time and memory then hardly grow
with the number of queries.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.evaluate import Evaluation

_DRAWS = 1 << 21
"""How many random draws are held at a time (16 MiB of values)."""
_MOST_DRAWN = 1 << 15
"""Of more queries than this, groups are drawn."""
_FEW_DIFFER = 16
"""So many differences have 2^16 ways to go up or down, few enough to try each."""


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that holds it with the given confidence."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """How much better the first model is than the second, on the same queries."""

    metric: str
    difference: float
    """Mean of the first less mean of the second."""
    low: float
    high: float
    """The bootstrap interval of the difference."""
    p_value: float
    """Two-sided, in (0, 1]: how likely so large a difference is if there is none. At least that of
    the exact sign-flip test where 16 queries or fewer differ, and 2 / 2^m with m more that do: so
    likely it is that all of them go one way."""


def bootstrap_interval(
    values: npt.NDArray[np.float64],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of the mean.

    Args:
        values: one per query, `[queries]`.
        confidence: in (0, 1).
        resamples: how many samples are drawn.
        seed: of the draws; the same seed and number of queries draws the same queries.

    Raises:
        DataError: there are no values, or one is not finite.
        ConfigError: `confidence` or `resamples` is out of range.
    """
    means = _resampled_means(values, confidence, resamples, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(np.mean(values)), float(low), float(high))


def paired_bootstrap(
    first: Evaluation,
    second: Evaluation,
    metric: str = "mrr",
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two models query by query.

    Queries are drawn with replacement, both models keeping each query's own values; the p-value is
    twice the share of samples in which the sign of the mean difference turns. Where a few queries
    differ, most of them one way, nearly every sample shows that way too, be it by chance or not.
    So where m do, 16 or fewer, p is at least that of the exact sign-flip test: the share of the
    2^m ways to give the differences signs in which their sum is as far from 0 as it is, or further.
    With more than 16 it is at least 2 / 2^m, the share in which all go one way.

    Args:
        first: the evaluation of one model.
        second: of the other, on the same log and queries.
        metric: a name in `Evaluation.per_query`.
        confidence: of the interval, in (0, 1).
        resamples: how many samples are drawn.
        seed: of the draws.

    Raises:
        DataError: the evaluations are not of the same queries, or one lacks the metric.
        ConfigError: `confidence` or `resamples` is out of range.
    """
    if not np.array_equal(first.ranking.queries, second.ranking.queries):
        raise DataError(
            f"{first.model} and {second.model} were evaluated on different queries; a paired "
            "comparison needs the same log, seed and exclude_seen"
        )
    for evaluation in (first, second):
        if metric not in evaluation.per_query:
            known = ", ".join(sorted(evaluation.per_query))
            raise DataError(
                f"{evaluation.model} has no metric {metric!r} per query; it has {known}"
            )
    return compare_values(
        metric,
        first.per_query[metric],
        second.per_query[metric],
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def compare_values(
    metric: str,
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two models by their values for the same queries, as `paired_bootstrap` does.

    Args:
        metric: what the values are, for the result.
        first: one model's value of each query, `[queries]`; of several seeds, their mean.
        second: the other's, in the same order.
        confidence: of the interval, in (0, 1).
        resamples: how many samples are drawn.
        seed: of the draws.

    Raises:
        DataError: the values are not of equally many queries, or one is not finite.
        ConfigError: `confidence` or `resamples` is out of range.
    """
    if first.shape != second.shape:
        raise DataError(
            f"{metric}: {len(first):,} values compared with {len(second):,}; a paired comparison "
            "needs the same queries"
        )
    differences = first - second
    means = _resampled_means(differences, confidence, resamples, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    fewest = 1 + min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return Comparison(
        metric=metric,
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        p_value=min(1.0, max(2 * fewest / (resamples + 1), _least_p(differences))),
    )


def _least_p(differences: npt.NDArray[np.float64]) -> float:
    """How likely the sum is as far from 0 if each difference may as well go the other way.

    Of many differences only how likely it is that all go one way, which is less.
    """
    differing = differences[differences != 0]
    if len(differing) > _FEW_DIFFER:
        return float(2 * 0.5 ** len(differing))
    sums = np.zeros(1)
    for difference in differing:
        sums = np.concatenate([sums + difference, sums - difference])
    # Sums that are equal but for their rounding count as equal.
    rounding = 1e-9 * np.abs(differing).sum()
    return float(np.mean(np.abs(sums) >= np.abs(differing.sum()) - rounding))


def _resampled_means(
    values: npt.NDArray[np.float64], confidence: float, resamples: int, seed: int
) -> npt.NDArray[np.float64]:
    count = len(values)
    if count == 0 or not np.isfinite(values).all():
        raise DataError(f"bootstrap: {count} values given; it needs one or more, all finite")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence: {confidence} given; it must be between 0 and 1")
    if resamples < 1:
        raise ConfigError(f"resamples: {resamples} given; it must be at least 1")
    random = np.random.default_rng(seed)
    if count > _MOST_DRAWN:
        values, count = _grouped(values, random), _MOST_DRAWN
    means = np.empty(resamples)
    step = max(1, _DRAWS // count)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = random.integers(0, count, (rows, count), dtype=np.uint32)
        means[start : start + rows] = values[draws].mean(axis=1)
    return means


def _grouped(
    values: npt.NDArray[np.float64], random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Means of random groups whose sizes differ by at most one, `[_MOST_DRAWN]`.

    A group counts as its size: its part of the sum over all queries, on the scale of one value, so
    that the mean over all groups is the mean over all queries.
    """
    group = random.permutation(len(values)) % _MOST_DRAWN
    mean = values.mean()
    rest = np.bincount(group, weights=values - mean, minlength=_MOST_DRAWN)
    grouped: npt.NDArray[np.float64] = mean + rest * (_MOST_DRAWN / len(values))
    return grouped
