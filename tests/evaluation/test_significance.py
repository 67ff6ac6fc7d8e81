import numpy as np
import pytest

from dualtower.errors import ConfigError, DataError
from dualtower.evaluation import significance
from dualtower.evaluation.evaluate import Evaluation, evaluate
from dualtower.evaluation.significance import (
    bootstrap_interval,
    compare_values,
    paired_bootstrap,
)
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
    """100 samples of 30,000 queries are more draws than are held at a time."""
    interval = bootstrap_interval(np.ones(30_000), resamples=100)
    assert (interval.low, interval.high) == (1, 1)
    interval = bootstrap_interval(np.ones(2_200_000), resamples=3)
    assert (interval.low, interval.high) == (1, 1)


def plain_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The textbook's bootstrap, one sample after the other."""
    random = np.random.default_rng(seed)
    return np.array([random.choice(values, len(values)).mean() for _ in range(resamples)])


def test_few_queries_are_drawn_one_by_one():
    """The same draws as a plain implementation: a sample is the next so many integers."""
    values = np.random.default_rng(0).random(300)
    random = np.random.default_rng(7)
    means = [values[random.integers(0, 300, 300, dtype=np.uint32)].mean() for _ in range(200)]
    interval = bootstrap_interval(values, resamples=200, seed=7)
    assert interval.low == pytest.approx(np.quantile(means, 0.025), abs=1e-15)
    assert interval.high == pytest.approx(np.quantile(means, 0.975), abs=1e-15)


@pytest.mark.parametrize("kind", ["hits", "reciprocal ranks"])
def test_groups_of_queries_vary_as_single_ones(kind: str, monkeypatch: pytest.MonkeyPatch):
    """5,001 queries in 1,000 groups, also where sizes differ and few values are not zero."""
    monkeypatch.setattr(significance, "_MOST_DRAWN", 1_000)
    random = np.random.default_rng(0)
    values = 1.0 / random.integers(1, 100, 5_001)
    if kind == "hits":
        values = (random.random(5_001) < 0.02).astype(float)
    ours = significance._resampled_means(values, 0.95, 4_000, 1)
    plain = plain_means(values, 4_000, 2)
    exact = values.std() / np.sqrt(5_001)
    assert ours.mean() == pytest.approx(values.mean(), abs=0.05 * exact)
    assert ours.std() == pytest.approx(exact, rel=0.05)
    for share in (0.025, 0.25, 0.75, 0.975):
        gap = np.quantile(ours, share) - np.quantile(plain, share)
        assert abs(gap) < 0.15 * exact


def test_the_mean_of_groups_is_the_mean_of_the_queries(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(significance, "_MOST_DRAWN", 4)
    values = np.arange(11.0) ** 2
    grouped = significance._grouped(values, np.random.default_rng(0))
    assert len(grouped) == 4
    assert grouped.mean() == pytest.approx(values.mean(), rel=1e-12)


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


@pytest.mark.parametrize(("differ", "least"), [(1, 1), (2, 0.5), (4, 0.125), (10, 2 / 1024)])
def test_few_queries_that_differ_prove_little(differ: int, least: float):
    """All one way, p is that of the exact sign test, however many others are alike."""
    second = np.linspace(0, 1, 3_000)
    first = second.copy()
    first[100 : 100 + differ] += 0.5
    assert compare_values("mrr", first, second).p_value == least
    assert compare_values("mrr", second, first).p_value == least


@pytest.mark.parametrize(
    ("differences", "ways", "least"),
    [
        # Eight signs, six or more between ups and downs: none or one of them down, or all but so.
        ([0.1] * 7 + [-0.1], 2 * (1 + 8), 2**8),
        # The five must go one way; the small one goes as it likes.
        ([0.5] * 5 + [-0.001], 2 * 2, 2**6),
        # .3 and -.1 - .2 leave 0, as far from it as every sum is but for the rounding of .1 + .2.
        ([0.3, -0.1, -0.2], 8, 8),
        # 3, 1 and 1 up, 1 down are 4 or more: all up (6), one 1 down (three ways), or the reverse.
        ([3, 1, 1, -1], 2 * (1 + 3), 16),
        ([0.25] * 15 + [-0.25], 2 * (1 + 16), 2**16),
    ],
)
def test_few_differences_are_tried_with_every_sign(differences: list[float], ways: int, least: int):
    """By hand: how many of the 2^m ways to go have a sum as far from 0."""
    values = np.array(differences + [0.0] * 500)
    assert compare_values("mrr", values, np.zeros(len(values))).p_value == ways / least
    assert compare_values("mrr", np.zeros(len(values)), values).p_value == ways / least


def test_among_more_queries_that_differ_the_samples_decide():
    """Twelve up and six down: no more than chance, and more than 2 / 2^18."""
    differences = np.repeat([1.0, -1.0, 0.0], [12, 6, 982])
    found = compare_values("mrr", differences, np.zeros(1_000))
    turned = significance._resampled_means(differences, 0.95, 10_000, 0) <= 0
    assert found.p_value == 2 * (1 + turned.sum()) / 10_001
    assert 0.1 < found.p_value < 0.3


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


def test_values_are_compared_as_evaluations_are():
    first, second = evaluation_of(0, 0.5), evaluation_of(1, 0.0)
    values = first.per_query["mrr"], second.per_query["mrr"]
    assert compare_values("mrr", *values) == paired_bootstrap(first, second)
    with pytest.raises(DataError, match="mrr: 3 values compared with 2"):
        compare_values("mrr", np.ones(3), np.ones(2))


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
