import numpy as np
import numpy.typing as npt
import pytest

from dualtower.retrieval.index import Index, build_index
from dualtower.retrieval.interests import search_pairs
from dualtower.retrieval.retriever import Retriever

VECTORS = np.array([[5, 0], [4, 1], [3, 3], [0, 4], [1, 1]], dtype=np.float32)
EAST, NORTH = [1, 0], [0, 1]


def queries(*rows: list[list[int]]) -> npt.NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


def found(index: Index, rows: npt.NDArray[np.float32], fetch: int) -> list[tuple[int, int, float]]:
    pairs = search_pairs(index, rows, fetch)
    columns = pairs.query.tolist(), pairs.position.tolist(), pairs.score.tolist()
    return sorted(zip(*columns, strict=True))


def test_an_item_that_two_interests_find_stands_once_with_its_best_score() -> None:
    index = build_index(VECTORS)
    # East finds 0, 1 and 2 (scores 5, 4, 3), north 3, 2 and, of two with score 1, the first.
    two = search_pairs(index, queries([EAST, NORTH]), 3)
    assert two.position.tolist() == [0, 1, 2, 3]
    assert two.score.tolist() == [5, 4, 3, 4]
    assert two.unfetched.tolist() == [3]  # the third best of east; north's is 1


def test_an_interest_that_found_an_item_need_not_be_the_one_that_scores_it() -> None:
    index = build_index(np.array([[5, 6], [7, 0]], dtype=np.float32))
    pairs = search_pairs(index, queries([EAST, NORTH]), 1)
    assert pairs.position.tolist() == [0, 1]
    assert pairs.score.tolist() == [6, 7]
    # Item 0 is found by north alone at 6, while 2 · east, which fetched item 1, scores it 10.
    pairs = search_pairs(index, queries([[2, 0], NORTH]), 1)
    assert pairs.score.tolist() == [10, 14]


def test_several_interests_beside_one_interest_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    index = build_index(VECTORS)
    searched: list[list[list[float]]] = []
    search = index.search

    def noted(
        vectors: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        searched.append(vectors.tolist())
        return search(vectors, k)

    monkeypatch.setattr(index, "search", noted)
    rows = queries([NORTH, NORTH, NORTH], [EAST, NORTH, EAST], [EAST, EAST, EAST])
    assert found(index, rows, 1) == [(0, 3, 4), (1, 0, 5), (1, 3, 4), (2, 0, 5)]
    assert searched == [[NORTH, EAST, NORTH, EAST]]


def test_a_repeated_first_interest_changes_no_answer() -> None:
    generator = np.random.default_rng(0)
    retriever = Retriever(build_index(generator.normal(size=(900, 6)).astype(np.float32)))
    rows = generator.normal(size=(20, 2, 6)).astype(np.float32)
    repeated = np.concatenate([rows, rows[:, :1], rows[:, :1]], axis=1)
    plain, again = retriever.retrieve(rows, 12), retriever.retrieve(repeated, 12)
    assert np.array_equal(plain.positions, again.positions)
    assert np.array_equal(plain.scores, again.scores)
