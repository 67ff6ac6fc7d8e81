import numpy as np
import pytest

from dualtower.data.columns import Ragged
from dualtower.errors import DataError
from dualtower.retrieval.exact import (
    Candidates,
    ExactScan,
    best_of_pairs,
    checked_vectors,
    pair_scores,
)


def test_best_of_pairs_by_score_then_position() -> None:
    found = best_of_pairs(
        query_of_pair=np.array([2, 0, 0, 2, 0]),
        positions=np.array([7, 3, 9, 5, 1]),
        scores=np.array([1, 0.5, 2, 1, 0.5], dtype=np.float32),
        queries=3,
        n=2,
    )
    assert found.positions.tolist() == [[9, 1], [-1, -1], [5, 7]]
    assert found.scores.tolist() == [[2, 0.5], [-np.inf, -np.inf], [1, 1]]
    assert found.counts().tolist() == [2, 0, 2]
    assert found.short().tolist() == [False, True, False]


def test_scan_by_hand() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 1], [-1, -1]], dtype=np.float32)
    scan = ExactScan(vectors)
    queries = np.array([[[2, 1]], [[0, -1]]], dtype=np.float32)
    found = scan.top(queries, 3)
    assert found.positions.tolist() == [[2, 0, 1], [3, 0, 1]]
    assert found.scores.tolist() == [[3, 2, 1], [1, 0, -1]]

    exclude = Ragged(np.array([2, 3, 0, 1], dtype=np.int32), np.array([0, 1, 4]))
    found = scan.top(queries, 2, exclude=exclude)
    assert found.positions.tolist() == [[0, 1], [2, -1]]

    found = scan.top(queries, 3, exclude=exclude, allowed=np.array([1, 2]))
    assert found.positions.tolist() == [[1, -1, -1], [2, -1, -1]]

    assert scan.top(queries, 1, allowed=np.array([], dtype=np.int64)).short().all()


def test_scan_takes_the_best_of_several_interests() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.9, 0.9]], dtype=np.float32)
    queries = np.array([[[1, 0], [0, 2]]], dtype=np.float32)
    found = ExactScan(vectors).top(queries, 3)
    assert found.positions.tolist() == [[1, 2, 0]]
    np.testing.assert_allclose(found.scores, [[2, 1.8, 1]])


def test_equal_vectors_have_equal_scores_wherever_they_stand() -> None:
    generator = np.random.default_rng(0)
    vectors = np.tile(generator.normal(size=(1, 37)).astype(np.float32), (1_000, 1))
    queries = generator.normal(size=(65, 1, 37)).astype(np.float32)
    together = ExactScan(vectors).top(queries, 5)
    assert together.positions.tolist() == [[0, 1, 2, 3, 4]] * 65
    for row in range(0, 65, 16):
        alone = ExactScan(vectors).top(queries[row : row + 1], 5)
        np.testing.assert_array_equal(alone.scores[0], together.scores[row])


def test_pair_scores_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    queries = generator.normal(size=(4, 2, 3)).astype(np.float32)
    vectors = generator.normal(size=(5, 3)).astype(np.float32)
    query, position = np.divmod(np.arange(20), 5)
    expected = np.einsum("qid,pd->qpi", queries, vectors).max(axis=2).ravel()
    monkeypatch.setattr("dualtower.retrieval.exact._PAIRS_AT_ONCE", 7)
    np.testing.assert_allclose(pair_scores(queries, vectors, query, position), expected, rtol=1e-6)


def test_scan_across_blocks_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(50, 4)).astype(np.float32)
    queries = generator.normal(size=(9, 1, 4)).astype(np.float32)
    exclude = Ragged(np.arange(9, dtype=np.int32), np.arange(10))
    whole = ExactScan(vectors).top(queries, 7, exclude=exclude)
    monkeypatch.setattr("dualtower.retrieval.exact._SCORES_AT_ONCE", 100)
    parts = ExactScan(vectors).top(queries, 7, exclude=exclude)
    np.testing.assert_array_equal(whole.positions, parts.positions)
    np.testing.assert_array_equal(whole.scores, parts.scores)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_numbers_that_make_no_score(bad: float) -> None:
    vectors = np.zeros((5, 3))
    vectors[3, 1] = bad
    with pytest.raises(DataError, match=r"item vectors: row 3 .* NaN, infinite or huge"):
        checked_vectors(vectors, "item vectors")


def test_shapes_that_are_no_vectors() -> None:
    for shape in [(3,), (2, 0), (1, 2, 3, 4)]:
        with pytest.raises(DataError, match=r"should be \[count, dim\]"):
            checked_vectors(np.zeros(shape), "item vectors")


def test_candidates_start_empty() -> None:
    assert Candidates.empty(2, 3).counts().tolist() == [0, 0]
