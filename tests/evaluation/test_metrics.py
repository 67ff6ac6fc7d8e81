import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualtower.evaluation.metrics import (
    coverage,
    parse_metric,
    per_query_metrics,
    per_target_metrics,
)
from dualtower.evaluation.ranking import Ranking
from tests.evaluation.slow import slow_metrics


def ranking_of(*ranks: list[float]) -> Ranking:
    lengths = [len(part) for part in ranks]
    return Ranking(
        queries=np.arange(1, len(ranks) + 1),
        query=np.repeat(np.arange(len(ranks)), lengths),
        items=np.ones(sum(lengths), dtype=np.int64),
        ranks=np.array([rank for part in ranks for rank in part]),
        top=np.empty((len(ranks), 0), dtype=np.int64),
        outside_corpus=0,
        seen_targets=0,
        dropped_queries=0,
    )


def test_values_worked_out_by_hand():
    values = per_query_metrics(ranking_of([2, 7, math.inf], [1], [10.5]), (5, 10))
    assert values["hit_rate@5"].tolist() == [1, 1, 0]
    assert values["hit_rate@10"].tolist() == [1, 1, 0], "rank 10.5 is not within 10"
    assert values["mrr"] == pytest.approx([1 / 2, 1, 1 / 10.5])
    assert values["recall@5"] == pytest.approx([1 / 3, 1, 0])
    assert values["recall@10"] == pytest.approx([2 / 3, 1, 0])
    # Three targets: the best possible list has them at ranks 1, 2 and 3.
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert values["ndcg@5"] == pytest.approx([1 / math.log2(3) / ideal, 1, 0])
    assert values["ndcg@10"] == pytest.approx([(1 / math.log2(3) + 1 / 3) / ideal, 1, 0])


def test_more_targets_than_places():
    values = per_query_metrics(ranking_of([1, 2, 3, 4]), (2,))
    assert values["ndcg@2"].tolist() == [1]
    assert values["recall@2"].tolist() == [0.5]


def test_a_query_without_a_hit_has_zero_everywhere():
    values = per_query_metrics(ranking_of([math.inf]), (10,))
    assert {name: value.tolist() for name, value in values.items()} == {
        "hit_rate@10": [0],
        "recall@10": [0],
        "ndcg@10": [0],
        "mrr": [0],
    }


halves = st.integers(2, 60).map(lambda twice: twice / 2) | st.just(math.inf)


@given(
    ranks=st.lists(st.lists(halves, min_size=1, max_size=12), min_size=1, max_size=6),
    cutoff=st.integers(1, 20),
)
def test_the_same_as_query_by_query(ranks, cutoff):
    values = per_query_metrics(ranking_of(*ranks), (cutoff,))
    for name, value in values.items():
        assert value == pytest.approx([slow_metrics(part, cutoff)[name] for part in ranks])


@given(
    order=st.permutations(range(1, 16)),
    count=st.integers(1, 15),
    cutoff=st.integers(1, 20),
)
def test_real_rankings_stay_between_0_and_1(order, count, cutoff):
    values = per_query_metrics(ranking_of(list(order[:count])), (cutoff,))
    for value in values.values():
        assert 0 <= value[0] <= 1 + 1e-12


def test_targets_by_themselves():
    values = per_target_metrics(np.array([1, 4, math.inf]), (3,))
    assert values["hit_rate@3"].tolist() == [1, 0, 0]
    assert values["mrr"].tolist() == [1, 0.25, 0]


def test_coverage_counts_distinct_items_within_the_cutoff():
    top = np.array([[3, 1, 2], [3, 4, 0]])
    assert coverage(top, 1, 8) == 1 / 8
    assert coverage(top, 2, 8) == 3 / 8
    assert coverage(top, 3, 8) == 4 / 8


def test_names_of_metrics():
    assert parse_metric("mrr") is None
    assert parse_metric("ndcg@20") == 20
