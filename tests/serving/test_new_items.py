import numpy as np
import pytest

from dualtower.retrieval.exact import pair_scores
from dualtower.serving.new_items import NewItems, NewItemVectors, best_with_new


class Means:
    """A model whose new items are the mean of their queries."""

    def encode_new_item(self, row: int, total: np.ndarray, count: int) -> np.ndarray:
        return (total / count).astype(np.float32)


def kept(most: int) -> NewItemVectors:
    return NewItemVectors(Means(), 2, most)  # type: ignore[arg-type]


def test_room_grows_and_the_oldest_goes() -> None:
    vectors = kept(100)
    given = np.random.default_rng(0).normal(size=(1_000, 2)).astype(np.float32)
    for number in range(1_000):
        assert vectors.observe(f"k{number}", f"n{number}", 0, given[number]) == number
        new = vectors.items()
        assert len(new) == min(number + 1, 100)
        assert new.first == max(0, number - 99)
        assert new.ids[-1] == f"n{number}"
    np.testing.assert_array_equal(new.vectors, given[900:])
    assert new.ids.tolist() == [f"n{number}" for number in range(900, 1_000)]
    assert (vectors.number_of("k899"), vectors.number_of("k900")) == (-1, 900)
    assert vectors.numbers_named(["n899", "n900", "?", "n999"]) == [900, 999]
    assert new.places(np.array([5, 899, 900, 999, 1_000])).tolist() == [0, 99]
    assert len(vectors._number) == 200  # nothing is left of those that went


def test_a_later_event_shows_in_what_was_given() -> None:
    vectors = kept(3)
    vectors.observe("a", "a", 7, np.array([1, 0], dtype=np.float32))
    new = vectors.items()
    vectors.observe("a", "A", 7, np.array([0, 1], dtype=np.float32))
    assert new.vectors.tolist() == [[0.5, 0.5]]
    assert (new.ids.tolist(), new.rows.tolist()) == (["a"], [7])


@pytest.mark.parametrize("interests", [0, 1, 3])
@pytest.mark.parametrize("n", [1, 5, 40, 200])
def test_the_best_are_those_of_all_pairs(n: int, interests: int) -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(60, 8)).astype(np.float32)
    values[20:40] = values[0]  # ties
    new = NewItems(np.arange(60).astype(object), np.zeros(60, dtype=np.int64), values, 1_000)
    vector = random.normal(size=(interests, 8) if interests else 8).astype(np.float32)
    found = np.array([3, 1, 2]), np.array([2.5, 0.5, -0.5], dtype=np.float32)
    left_out = np.array([3, 10 + 5, 10 + 1_000, 10 + 1_030, 10 + 1_059, 10 + 1_060])
    positions, scores = best_with_new(*found, new, vector, n, size=10, left_out=left_out)
    places = np.setdiff1d(np.arange(60), [0, 30, 59])
    stacked = vector.reshape(1, -1, 8)
    own = pair_scores(stacked, values, np.zeros(len(places), dtype=np.int64), places)
    everything = sorted(
        [*zip(-own, 1_010 + places, strict=True), *zip(-found[1], found[0], strict=True)]
    )
    assert positions.tolist() == [position for _, position in everything[:n]]
    np.testing.assert_array_equal(scores, [-score for score, _ in everything[:n]])


def test_without_new_items_what_was_found_stays() -> None:
    none = kept(5).items()
    found = np.array([3, 1]), np.array([2.5, 0.5], dtype=np.float32)
    positions, scores = best_with_new(
        *found, none, np.ones(2, dtype=np.float32), 2, size=4, left_out=np.array([9])
    )
    assert (positions.tolist(), scores.tolist()) == ([3, 1], [2.5, 0.5])
