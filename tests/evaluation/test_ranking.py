from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualtower.config import EvaluationConfig
from dualtower.data.dataset import Dataset, Log
from dualtower.errors import DataError, NotFittedError
from dualtower.evaluation import vector_ranking
from dualtower.evaluation.evaluate import evaluate, validation_metric
from dualtower.evaluation.pairs import Pairs
from dualtower.evaluation.ranking import Ranking, rank_targets
from dualtower.models.base import Model
from dualtower.models.popularity import Popularity
from tests.evaluation.slow import GivenScores, GivenVectors, slow_ranks
from tests.helpers import tiny_dataset


def log_of(histories, targets, item_count, corpus=None) -> Log:
    """Every query's history, then its targets."""
    logs = [list(past) + list(new) for past, new in zip(histories, targets, strict=True)]
    dataset = tiny_dataset(logs, item_count=item_count)
    start = dataset.offsets[:-1] + np.array([0, *(len(past) for past in histories)])
    rows = np.arange(1, item_count) if corpus is None else np.array(sorted(corpus))
    return Log(dataset, start, dataset.offsets[1:], rows)


def as_dict(ranking: Ranking) -> dict[tuple[int, int], float]:
    rows = ranking.queries[ranking.query]
    pairs = zip(rows.tolist(), ranking.items.tolist(), strict=True)
    return dict(zip(pairs, ranking.ranks.tolist(), strict=True))


def rank_all(model: Model, log: Log, **options) -> Ranking:
    return rank_targets(model, log, log.queries(), progress=False, **options)


SCORES = np.array([[0, 0, 0, 0, 0, 0], [9, 5, 4, 4, 3, 4]], dtype=np.float32)
"""One query; items 2, 3 and 5 tie behind item 1. Row 0, the unknown, never competes."""


@pytest.mark.parametrize(("target", "rank"), [(1, 1), (2, 3), (3, 3), (5, 3), (4, 5)])
def test_ties_count_as_half(target, rank):
    log = log_of([[]], [[target]], 6)
    assert as_dict(rank_all(GivenScores(SCORES), log)) == {(1, target): rank}


def test_seen_items_leave_the_ranking():
    log = log_of([[1, 3, 3]], [[5]], 6)
    assert as_dict(rank_all(GivenScores(SCORES), log)) == {(1, 5): 1.5}
    assert as_dict(rank_all(GivenScores(SCORES), log, exclude_seen=False)) == {(1, 5): 3}


class Told(GivenScores):
    """Remembers the histories that it was given."""

    def score(self, batch):
        self.histories = [
            batch.history.take(np.array([place])).values.tolist() for place in range(len(batch))
        ]
        return super().score(batch)


@pytest.mark.parametrize(("shown", "history"), [(False, [1]), (True, [1, 3])])
def test_events_of_the_target_s_time_are_masked_but_only_told_on_demand(shown, history):
    log = log_of([[1, 3]], [[5]], 6)
    log = replace(log, dataset=replace(log.dataset, times=np.array([10, 20, 20])))
    model = Told(SCORES)
    assert as_dict(rank_all(model, log, same_time_history=shown)) == {(1, 5): 1.5}
    assert model.histories == [history]
    evaluation = evaluate(
        model, log, config=EvaluationConfig(same_time_history=shown), progress=False
    )
    assert evaluation.metrics["mrr"] == 1 / 1.5
    assert model.histories == [history]
    config = EvaluationConfig(same_time_history=shown)
    assert validation_metric(model, log, "mrr", config=config) == 1 / 1.5
    assert model.histories == [history]


def test_a_seen_target_is_dropped_and_counted():
    log = log_of([[1, 2]], [[2, 4, 4]], 6)
    ranking = rank_all(GivenScores(SCORES), log)
    assert as_dict(ranking) == {(1, 4): 3}
    assert (ranking.seen_targets, ranking.dropped_queries) == (1, 0)


def test_a_query_with_only_seen_targets_is_dropped_and_counted():
    scores = np.repeat(SCORES[1:], 3, axis=0)
    log = log_of([[1], [1]], [[1], [2]], 6)
    ranking = rank_all(GivenScores(scores), log, top=2)
    assert ranking.queries.tolist() == [2]
    assert ranking.query.tolist() == [0]
    assert (ranking.seen_targets, ranking.dropped_queries) == (1, 1)
    assert sorted(ranking.top[0].tolist())[0] in (2, 3)


def test_targets_outside_the_corpus_are_misses_and_counted():
    log = log_of([[]], [[1, 4]], 6, corpus=[2, 3, 4])
    ranking = rank_all(GivenScores(SCORES), log)
    assert as_dict(ranking) == {(1, 1): np.inf, (1, 4): 3}
    assert ranking.outside_corpus == 1


def test_other_targets_stay_in_the_ranking():
    log = log_of([[]], [[1, 4]], 6)
    assert as_dict(rank_all(GivenScores(SCORES), log)) == {(1, 1): 1, (1, 4): 5}


def test_identical_vectors_tie_whatever_the_rounding():
    """One direction a thousand times over more than one tile: every target is in the middle."""
    random = np.random.default_rng(0)
    items = np.repeat(random.standard_normal((1, 31)).astype(np.float32), 3001, axis=0)
    items[2000:] *= -1
    queries = random.standard_normal((300, 31)).astype(np.float32)
    targets = random.integers(1, 2000, 299)
    log = log_of([[] for _ in targets], [[target] for target in targets], 3001)
    ranks = rank_all(GivenVectors(queries, items), log).ranks
    # 1,999 candidates share the target's vector, 1,001 others are all better or all worse.
    assert set(ranks.tolist()) == {1000.0, 2001.0}


def test_negative_zero_is_zero():
    items = np.array([[0, 0], [0.0, 1], [-0.0, 1]], dtype=np.float32)
    log = log_of([[]], [[1]], 3)
    assert rank_all(GivenVectors(items, items), log).ranks.tolist() == [1.5]


@pytest.mark.parametrize("interests", [None, 3])
def test_a_target_neither_beats_nor_ties_itself(interests):
    """Real-valued vectors of awkward length: the product's rounding must not show."""
    random = np.random.default_rng(1)
    shape = (400, 37) if interests is None else (400, interests, 37)
    queries = random.standard_normal(shape).astype(np.float32)
    items = random.standard_normal((2500, 37)).astype(np.float32)
    targets = random.integers(1, 2500, 399)
    log = log_of([[] for _ in targets], [[target] for target in targets], 2500)
    scores = np.einsum("q...d,id->q...i", queries.astype(np.float64), items)
    scores = scores if interests is None else scores.max(axis=1)
    own = scores[np.arange(1, 400), targets]
    expected = 1 + (np.delete(scores[1:], 0, axis=1) > own[:, None]).sum(axis=1)
    assert rank_all(GivenVectors(queries, items), log).ranks.tolist() == expected.tolist()


@st.composite
def ranking_problems(draw):
    item_count = draw(st.integers(3, 40))
    queries = draw(st.integers(1, 6))
    rows = st.lists(st.integers(1, item_count - 1), max_size=8)
    histories = draw(st.lists(rows, min_size=queries, max_size=queries))
    targets = draw(
        st.lists(
            st.lists(st.integers(1, item_count - 1), min_size=1, max_size=6),
            min_size=queries,
            max_size=queries,
        )
    )
    corpus = draw(st.sets(st.integers(1, item_count - 1), min_size=1))
    interests = draw(st.sampled_from([None, 1, 2]))
    return item_count, histories, targets, corpus, interests, draw(st.integers(0, 2**32 - 1))


@settings(max_examples=120)
@given(problem=ranking_problems(), exclude_seen=st.booleans())
def test_both_ways_agree_with_counting_one_by_one(problem, exclude_seen):
    """Small whole numbers make many ties, and products that are exact in any order."""
    item_count, histories, targets, corpus, interests, seed = problem
    random = np.random.default_rng(seed)
    shape = (len(histories) + 1, *(() if interests is None else (interests,)), 2)
    queries = random.integers(-1, 2, shape).astype(np.float32)
    items = random.integers(-1, 2, (item_count, 2)).astype(np.float32)
    vectors = GivenVectors(queries, items)
    log = log_of(histories, targets, item_count, corpus)
    scores = vectors.score(log.requests(np.arange(len(histories) + 1)))

    expected = {}
    for row, (history, new) in enumerate(zip(histories, targets, strict=True), start=1):
        ranks = slow_ranks(scores[row], history, new, sorted(corpus), exclude_seen)
        expected |= {(row, item): rank for item, rank in ranks.items()}
    for model in (vectors, GivenScores(scores)):
        ranking = rank_all(model, log, exclude_seen=exclude_seen, top=5)
        assert as_dict(ranking) == expected
        for row, top in zip(ranking.queries, ranking.top, strict=True):
            seen = set(histories[row - 1]) if exclude_seen else set()
            candidates = sorted((scores[row, item] for item in corpus - seen), reverse=True)[:5]
            found = top[top > 0]
            assert len(set(found.tolist())) == len(found) == len(candidates)
            assert set(found.tolist()) <= corpus - seen
            assert scores[row, found].tolist() == candidates


@pytest.mark.parametrize("tiles", [1, 3, 256])
def test_tiles_and_groups_do_not_change_the_result(monkeypatch, tiles):
    """Many tiles, cut through the corpus unevenly, against one by one."""
    monkeypatch.setattr(vector_ranking, "TILES", tiles)
    monkeypatch.setattr(vector_ranking, "ROWS", 7)
    monkeypatch.setattr(vector_ranking, "COLUMNS", 48)
    random = np.random.default_rng(2)
    queries = random.integers(-2, 3, (60, 4)).astype(np.float32)
    items = random.integers(-2, 3, (333, 4)).astype(np.float32)
    histories = [random.integers(1, 333, 40).tolist() for _ in range(59)]
    targets = [random.integers(1, 333, 3).tolist() for _ in range(59)]
    log = log_of(histories, targets, 333)
    by_vector = rank_all(GivenVectors(queries, items), log, top=20)
    by_score = rank_all(GivenScores(queries @ items.T), log, top=20)
    assert as_dict(by_vector) == as_dict(by_score)
    scores = queries @ items.T
    for row, one, other in zip(by_vector.queries, by_vector.top, by_score.top, strict=True):
        assert scores[row, one].tolist() == scores[row, other].tolist()


@pytest.mark.parametrize("top", [1, 20])
@pytest.mark.parametrize("item_count", [400, 4_050])
def test_the_best_are_found_with_memory_that_does_not_grow_with_the_corpus(
    monkeypatch, item_count, top
):
    """Real-valued scores, sorted whole; the best scores held are those of two tiles of 48 items.

    Of 9 and of 85 tiles, so that the last two are one: a row holds 3 groups of each, and there are
    7 rows, with 2 buffers of their 48 scores and one of 8 rows with `top` groups of 16 vectors.
    """
    for name, size in (("TILES", 2), ("ROWS", 7), ("COLUMNS", 48)):
        monkeypatch.setattr(vector_ranking, name, size)
    random = np.random.default_rng(4)
    queries = random.standard_normal((30, 5)).astype(np.float32)
    items = random.standard_normal((item_count, 5)).astype(np.float32)
    histories = [random.integers(1, item_count, 40).tolist() for _ in range(29)]
    log = log_of(histories, [[1] for _ in histories], item_count)
    made: list[torch.Tensor] = []
    searched: set[int] = set()
    empty, topk = torch.empty, torch.topk

    def noted(*size, **more):
        made.append(empty(*size, **more))
        return made[-1]

    def searching(values, *rest, **more):
        searched.add(values.untyped_storage().data_ptr())
        return topk(values, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", noted)
        patched.setattr(torch, "topk", searching)
        ranking = rank_all(GivenVectors(queries, items), log, top=top)
    maxima = [one for one in made if one.shape == (7, 2 * 3)]
    assert len(maxima) == 4  # of 29 queries; the fifth part has one
    assert {one.untyped_storage().data_ptr() for one in maxima} <= searched
    assert max(one.numel() for one in made) == max(2 * 7 * 48, 8 * top * 16 * 5)
    scores = queries @ items.T
    for row, found in zip(ranking.queries, ranking.top, strict=True):
        order = np.argsort(-scores[row, 1:], kind="stable") + 1
        best = [item for item in order.tolist() if item not in histories[row - 1]][:top]
        assert found.tolist() == best


def test_none_may_be_asked_for():
    """Also where items were seen."""
    items = np.ones((6, 2), dtype=np.float32)
    ranker = vector_ranking.VectorRanker(GivenVectors(items, items), np.arange(1, 6))
    seen = Pairs(np.array([0, 0, 2]), np.array([1, 3, 4]))
    assert ranker.top(np.ones((3, 1, 2), dtype=np.float32), seen, 0).shape == (3, 0)


def test_blocks_of_queries_are_put_together_in_order(monkeypatch):
    monkeypatch.setattr(vector_ranking.VectorRanker, "queries_per_block", 2)
    random = np.random.default_rng(3)
    queries = random.integers(-2, 3, (8, 3)).astype(np.float32)
    items = random.integers(-2, 3, (30, 3)).astype(np.float32)
    # Query 4 has a seen target alone, in the middle of a block.
    histories = [[1], [2], [3], [4], [5], [6], [7]]
    targets = [[8, 9], [10], [11, 12, 13], [4], [14], [1], [2, 3]]
    log = log_of(histories, targets, 30)
    by_score = rank_all(GivenScores(queries @ items.T), log)
    by_vector = rank_all(GivenVectors(queries, items), log)
    assert as_dict(by_vector) == as_dict(by_score)
    assert by_vector.queries.tolist() == [1, 2, 3, 5, 6, 7]
    assert by_vector.query.tolist() == [0, 0, 1, 2, 2, 2, 3, 4, 5, 5]
    assert by_vector.dropped_queries == 1


def test_minus_infinity_is_never_recommended():
    scores = np.array([[0] * 4, [0, -np.inf, 2, 1]], dtype=np.float32)
    ranking = rank_all(GivenScores(scores), log_of([[]], [[1]], 4), top=3)
    assert ranking.top.tolist() == [[2, 3, 0]]
    assert ranking.ranks.tolist() == [3]


def test_nan_scores_are_named():
    scores = np.array([[0] * 4, [0, 1, np.nan, 1]], dtype=np.float32)
    with pytest.raises(DataError, match=r"given: the score of item row 2 for query row 1 is NaN"):
        rank_all(GivenScores(scores), log_of([[]], [[1]], 4))


def test_nan_vectors_are_named():
    good = np.ones((4, 2), dtype=np.float32)
    bad = good.copy()
    bad[2] = np.nan
    log = log_of([[], []], [[1], [1]], 4)
    with pytest.raises(DataError, match=r"1 of 3 item vectors hold NaN .* position 1"):
        rank_all(GivenVectors(good, bad), log)
    with pytest.raises(DataError, match=r"1 of 2 query vectors hold NaN .* position 1"):
        rank_all(GivenVectors(bad, good), log)


def test_scores_of_another_shape_are_refused():
    log = log_of([[]], [[1]], 4)
    with pytest.raises(DataError, match=r"shape \(1, 3\); it must be .* = \(1, 4\)"):
        rank_all(GivenScores(np.zeros((2, 3), dtype=np.float32)), log)


def test_an_unfitted_model_is_refused():
    with pytest.raises(NotFittedError, match="popularity was not trained"):
        rank_all(Popularity(), log_of([[]], [[1]], 4))


def test_an_empty_corpus_is_refused():
    log = log_of([[]], [[1]], 4, corpus=[])
    with pytest.raises(DataError, match="corpus is empty"):
        rank_all(GivenScores(np.zeros((2, 4), dtype=np.float32)), log)


def test_a_model_of_another_dataset_is_refused():
    def everything(dataset: Dataset) -> Log:
        return dataset.everything()

    model = Popularity()
    model.solve(everything(tiny_dataset([[1, 2]])))
    with pytest.raises(DataError, match=r"fitted for 3 item rows, the log's dataset has 4"):
        rank_all(model, log_of([[]], [[1]], 4))
