import numpy as np
import pytest

from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.evaluate import Evaluation, evaluate
from dualtower.evaluation.significance import bootstrap_interval, paired_bootstrap
from tests.evaluation.slow import GivenScores
from tests.helpers import leave_last_out_by_hand, tiny_dataset


def evaluation_of(seed: int, lift: float, queries: int = 60) -> Evaluation:
    """Random scores; the target's is raised by `lift`."""
    split = leave_last_out_by_hand(tiny_dataset([[1, 2, 3]] * queries, item_count=30))
    scores = np.random.default_rng(seed).standard_normal((queries + 1, 30)).astype(np.float32)
    scores[:, 3] += lift
    return evaluate(GivenScores(scores), split.test, progress=False)


def test_the_interval_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).standard_normal(400)
    interval = bootstrap_interval(values)
    error = 1.96 * values.std() / np.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - error, abs=0.006)
    assert interval.high == pytest.approx(values.mean() + error, abs=0.006)


def test_a_wider_confidence_is_a_wider_interval():
    values = np.random.default_rng(0).standard_normal(50)
    narrow, wide = (bootstrap_interval(values, confidence=share) for share in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_one_seed_one_result():
    values = np.random.default_rng(0).standard_normal(50)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_blocks_of_resamples_cover_all_of_them():
    """More queries than one block of draws holds, so that there is a block per resample."""
    interval = bootstrap_interval(np.ones(2_200_000), resamples=3)
    assert (interval.low, interval.high) == (1, 1)


def test_a_clear_difference_has_the_smallest_p():
    better, worse = evaluation_of(0, 2.0), evaluation_of(1, 0.0)
    comparison = paired_bootstrap(better, worse)
    expected = better.per_query["mrr"].mean() - worse.per_query["mrr"].mean()
    assert comparison.difference == pytest.approx(expected)
    assert 0 < comparison.low < comparison.difference < comparison.high
    assert comparison.p_value == pytest.approx(2 / 10_001)
    assert paired_bootstrap(worse, better).difference == pytest.approx(-expected)


def test_no_difference_has_p_1():
    same = evaluation_of(0, 0.5)
    comparison = paired_bootstrap(same, same, "hit_rate@10")
    assert (comparison.difference, comparison.low, comparison.high) == (0, 0, 0)
    assert comparison.p_value == 1


def test_chance_differences_are_rejected_as_often_as_they_should():
    """A/A comparisons: p below .1 in about a tenth of 200."""
    random = np.random.default_rng(5)
    base = evaluation_of(0, 0.0, queries=80)
    rejected = 0
    for seed in range(200):
        values = random.standard_normal((2, 80))
        first, second = (
            Evaluation(**{**vars(base), "per_query": {"mrr": value}}) for value in values
        )
        rejected += paired_bootstrap(first, second, resamples=500, seed=seed).p_value < 0.1
    assert 10 <= rejected <= 32


def test_other_queries_are_refused():
    with pytest.raises(DataError, match="were evaluated on different queries"):
        paired_bootstrap(evaluation_of(0, 0, queries=5), evaluation_of(0, 0, queries=6))


def test_an_unknown_metric_is_refused():
    same = evaluation_of(0, 0)
    with pytest.raises(DataError, match=r"given has no metric 'auc' per query; it has hit_rate@10"):
        paired_bootstrap(same, same, "auc")


@pytest.mark.parametrize("values", [np.empty(0), np.array([1.0, np.nan])])
def test_values_must_be_numbers(values):
    with pytest.raises(DataError, match="it needs one or more, all finite"):
        bootstrap_interval(values)


@pytest.mark.parametrize(
    ("option", "value"), [("confidence", 0.0), ("confidence", 1.0), ("resamples", 0)]
)
def test_settings_out_of_range_are_refused(option, value):
    with pytest.raises(ConfigError, match=f"{option}: {value} given"):
        bootstrap_interval(np.ones(3), **{option: value})
