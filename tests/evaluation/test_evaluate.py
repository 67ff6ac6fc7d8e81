import json

import numpy as np
import pytest

from dualtower.config import EvaluationConfig
from dualtower.data.dataset import Dataset, Log
from dualtower.errors import ConfigError, DataError
from dualtower.evaluation.evaluate import evaluate, validation_metric
from tests.evaluation.slow import GivenScores
from tests.helpers import leave_last_out_by_hand, tiny_dataset

CONFIG = EvaluationConfig(cutoffs=(2, 1), cold_events=2)


def scores_of(dataset: Dataset) -> GivenScores:
    """For every query item 1 is best, then 2, and so on."""
    row = -np.arange(dataset.item_count, dtype=np.float32)
    return GivenScores(np.repeat(row[None], dataset.query_count, axis=0))


@pytest.fixture
def dataset() -> Dataset:
    """Items 1 and 2 are food (six training events), 3 drink, 4 without category, 5 paper."""
    return tiny_dataset(
        [[1, 1, 2, 1, 3], [2, 2, 1, 4], [3, 1, 2, 5], [4, 4]],
        categories=["food", "food", "drink", None, "paper"],
    )


@pytest.fixture
def test_log(dataset: Dataset) -> Log:
    """The last event of queries 1 to 3; query 4 has one more event before and one target too."""
    end = dataset.offsets[1:]
    start = end - np.array([0, 1, 1, 1, 1])
    return Log(dataset, start, end, np.arange(1, dataset.item_count))


def test_overall_metrics(dataset: Dataset, test_log: Log):
    result = evaluate(scores_of(dataset), test_log, config=CONFIG, progress=False)
    # Query 1 saw 1, 2: target 3 ranks 1. Query 2 saw 1, 2: target 4 ranks 2 behind 3.
    # Query 3 saw 1, 2, 3: target 5 ranks 2 behind 4. Query 4's target is in its history: dropped.
    assert result.ranking.ranks.tolist() == [1, 2, 2]
    assert result.cutoffs == (1, 2)
    assert result.metrics["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert result.metrics["hit_rate@1"] == pytest.approx(1 / 3)
    assert result.metrics["hit_rate@2"] == 1
    # Top 1: items 3, 3, 4. Top 2: 3 and 4, 3 and 4, 4 and 5.
    assert result.metrics["coverage@1"] == 2 / 5
    assert result.metrics["coverage@2"] == 3 / 5
    assert result.ranking.seen_targets == result.ranking.dropped_queries == 1
    assert result.per_query["mrr"].tolist() == [1, 1 / 2, 1 / 2]


def test_categories(dataset: Dataset, test_log: Log):
    table = evaluate(scores_of(dataset), test_log, config=CONFIG, progress=False).by_category
    assert table.columns == [
        "category",
        "targets",
        "train_events",
        "hit_rate@1",
        "hit_rate@2",
        "mrr",
    ]
    # Training events: drink 1 (query 3), unknown 1 (item 4 of query 4), paper none.
    assert table.rows() == [
        ("(unknown)", 1, 1, 0.0, 1.0, 0.5),
        ("drink", 1, 1, 1.0, 1.0, 1.0),
        ("paper", 1, 0, 0.0, 1.0, 0.5),
    ]


def test_segments(dataset: Dataset, test_log: Log):
    table = evaluate(scores_of(dataset), test_log, config=CONFIG, progress=False).segments
    # Food has most training events and is no target: drink and paper are minor, unknown is neither.
    # All three targets have fewer than two training events; all three queries have more.
    assert table.rows() == [
        ("minor categories", 2, 0.5, 1.0, 0.75),
        ("cold items", 3, 1 / 3, 1.0, 2 / 3),
        ("warm items", 0, None, None, None),
        ("cold queries", 0, None, None, None),
        ("warm queries", 3, 1 / 3, 1.0, 2 / 3),
    ]


def test_cold_is_decided_by_what_stands_before_the_log(dataset: Dataset, test_log: Log):
    config = EvaluationConfig(cutoffs=(1,), exclude_seen=False, cold_events=4)
    table = evaluate(scores_of(dataset), test_log, config=config, progress=False).segments
    # Before the log: queries have 4, 3, 3 and 1 events.
    assert dict(table.select("segment", "count").iter_rows()) == {
        "minor categories": 2,
        "cold items": 4,
        "warm items": 0,
        "cold queries": 3,
        "warm queries": 1,
    }


def test_without_categories():
    split = leave_last_out_by_hand(tiny_dataset([[1, 2, 3], [2, 3, 1]]))
    result = evaluate(scores_of(split.test.dataset), split.test, progress=False)
    assert result.by_category.is_empty()
    assert "minor categories" not in result.segments["segment"].to_list()


def test_a_part_of_the_queries_is_the_same_each_time():
    split = leave_last_out_by_hand(tiny_dataset([[1, 2, 3 + row] for row in range(30)]))
    model = scores_of(split.test.dataset)
    chosen = [
        evaluate(model, split.test, queries=7, seed=seed, progress=False).ranking.queries.tolist()
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] == sorted(set(chosen[0]))
    assert chosen[0] != chosen[2]
    assert len(chosen[0]) == 7
    everything = evaluate(model, split.test, queries=1000, progress=False)
    assert len(everything.ranking.queries) == 30


def test_no_queries_is_refused():
    split = leave_last_out_by_hand(tiny_dataset([[1, 2, 3]]))
    with pytest.raises(ConfigError, match="queries: 0 given; it must be at least 1"):
        evaluate(scores_of(split.test.dataset), split.test, queries=0, progress=False)


def test_a_log_with_nothing_to_rank_says_why():
    split = leave_last_out_by_hand(tiny_dataset([[1, 1, 1]]))
    with pytest.raises(DataError, match=r"1 target events, 1 of them on items already in"):
        evaluate(scores_of(split.test.dataset), split.test, progress=False)


def test_as_plain_values(dataset: Dataset, test_log: Log):
    result = evaluate(scores_of(dataset), test_log, config=CONFIG, progress=False)
    values = json.loads(json.dumps(result.to_dict()))
    assert values["queries"] == values["targets"] == 3
    assert values["metrics"] == result.metrics
    assert values["segments"] == result.segments.to_dicts()


def test_as_a_table(dataset: Dataset, test_log: Log):
    text = str(evaluate(scores_of(dataset), test_log, config=CONFIG, progress=False))
    assert "given: 3 queries, 3 targets, full ranking of 5 items (seen items left out)" in text
    assert "1 targets already in the history were dropped, and with them 1 queries" in text
    lines = {line[:26].strip(): line[26:].split() for line in text.splitlines()}
    assert lines["hit_rate"] == ["0.3333", "1.0000"]
    assert lines["mrr"] == ["0.6667"]
    assert lines["warm items"] == ["0", "-", "-", "-"]
    assert lines["drink"] == ["1", "1.0000", "1.0000", "1.0000"]


@pytest.mark.parametrize("metric", ["mrr", "hit_rate@1", "recall@2", "ndcg@2"])
def test_one_metric_alone_is_the_same(dataset: Dataset, test_log: Log, metric: str):
    model = scores_of(dataset)
    whole = evaluate(model, test_log, config=CONFIG, queries=3, progress=False)
    assert validation_metric(model, test_log, metric, queries=3) == whole.metrics[metric]


@pytest.mark.parametrize("metric", ["auc", "mrr@5", "hit_rate", "ndcg@0", "recall@x", "@3"])
def test_an_unknown_metric_is_refused(dataset: Dataset, test_log: Log, metric: str):
    with pytest.raises(ConfigError, match=f"'{metric}' is not a metric; use mrr, hit_rate@k"):
        validation_metric(scores_of(dataset), test_log, metric)


def test_one_metric_of_nothing_says_why():
    split = leave_last_out_by_hand(tiny_dataset([[1, 1, 1]]))
    with pytest.raises(DataError, match="no query has a target to rank"):
        validation_metric(scores_of(split.test.dataset), split.test, "mrr")
