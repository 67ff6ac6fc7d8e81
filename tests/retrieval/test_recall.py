import numpy as np
import numpy.typing as npt
import pytest

from dualtower.errors import DataError
from dualtower.retrieval.index import Index, build_index
from dualtower.retrieval.recall import IndexRecall, measure_recall, tune_effort

VECTORS = np.array([[5, 0], [4, 0], [3, 0], [2, 0], [1, 0]], dtype=np.float32)
QUERY = np.array([[1, 0]], dtype=np.float32)


def answering(monkeypatch: pytest.MonkeyPatch, answers: list[list[int]]) -> Index:
    """An index that returns these positions, whatever it is asked."""
    index = build_index(VECTORS)

    def search(
        queries: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        positions = np.array(answers)[:, :k]
        return np.where(positions >= 0, VECTORS[positions, 0], -np.inf), positions

    monkeypatch.setattr(index, "search", search)
    return index


def test_recall_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # The best three are 0, 1, 2: all found, two found, one found and one not returned.
    index = answering(monkeypatch, [[0, 1, 2], [0, 2, 4], [1, 3, -1]])
    recall = measure_recall(index, np.tile(QUERY, (3, 1)), 3)
    assert recall.mean == pytest.approx((1 + 2 / 3 + 1 / 3) / 3)
    assert recall.minimum == recall.first_percentile == pytest.approx(1 / 3)


def test_recall_of_several_interests_is_that_of_what_they_find_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = np.array([[5, 0], [4, 0], [0, 6], [0, 3], [1, 1]], dtype=np.float32)
    index = build_index(vectors)
    queries = np.array([[[1, 0], [0, 1]]] * 2, dtype=np.float32)
    assert measure_recall(index, queries, 3) == IndexRecall(1, 1, 1)

    # The best three are 2, 0 and 1. The first query's interests find 0 twice, which counts once.
    # The second's find all three, one more, and nothing.
    answers = np.array([[0, 4, -1], [0, 3, -1], [0, 1, 3], [2, -1, -1]])

    def search(
        vectors: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        return np.zeros(answers.shape, dtype=np.float32), answers

    monkeypatch.setattr(index, "search", search)
    recall = measure_recall(index, queries, 3)
    assert recall.mean == pytest.approx((1 / 3 + 1) / 2)
    assert recall.minimum == pytest.approx(1 / 3)


def test_effort_is_tuned_for_several_interests() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(5_000, 8)).astype(np.float32)
    queries = generator.normal(size=(100, 3, 8)).astype(np.float32)
    index = build_index(vectors, "ivf")
    recall = tune_effort(index, queries, 20)
    assert recall.mean >= 0.99
    assert 4 < index.effort < index.most_effort
    assert recall == measure_recall(index, queries, 20)


def test_the_first_percentile_leaves_out_one_in_a_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    index = answering(monkeypatch, [[4]] + [[1]] * 2 + [[0]] * 198)
    assert measure_recall(index, np.tile(QUERY, (201, 1)), 1) == IndexRecall(198 / 201, 0, 0)
    index = answering(monkeypatch, [[4]] * 2 + [[0]] * 299)
    assert measure_recall(index, np.tile(QUERY, (301, 1)), 1) == IndexRecall(299 / 301, 1, 0)


def test_ties_with_the_last_count_as_found() -> None:
    index = build_index(np.ones((10, 2), dtype=np.float32))
    assert measure_recall(index, QUERY, 3).minimum == 1


def test_k_beyond_the_corpus() -> None:
    assert measure_recall(build_index(VECTORS), QUERY, 50) == IndexRecall(1, 1, 1)


def test_effort_is_raised_no_further_than_needed() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(5_000, 8)).astype(np.float32)
    queries = generator.normal(size=(200, 8)).astype(np.float32)
    index = build_index(vectors, "ivf")
    recall = tune_effort(index, queries, 20)
    assert recall.mean >= 0.99
    assert 4 < index.effort < index.most_effort
    index.effort = index.effort * 4 // 5 - 1
    less = measure_recall(index, queries, 20)
    assert less.mean < 0.99 or less.first_percentile < 0.9


def test_no_queries_to_measure_on() -> None:
    for measure in (measure_recall, tune_effort):
        with pytest.raises(DataError, match="no queries to measure it on"):
            measure(build_index(VECTORS), QUERY[:0], 1)
