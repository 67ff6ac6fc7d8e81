import numpy as np
import pytest

from dualtower.retrieval.exact import pair_scores
from dualtower.serving import new_items
from dualtower.serving.new_items import NewItems, NewItemVectors, best_with_new


class Means:
    """A model whose new items are the mean of their queries."""

    def encode_new_item(self, row: int, total: np.ndarray, count: int) -> np.ndarray:
        return (total / count).astype(np.float32)


def kept(most: int) -> NewItemVectors:
    return NewItemVectors(Means(), 2, most)  # type: ignore[arg-type]


def numbered(values: np.ndarray, first: int) -> NewItems:
    """New items with these vectors."""
    count = len(values)
    lengths = np.maximum(np.linalg.norm(values, axis=1), np.float32(1e-30))
    rows = np.zeros(count, dtype=np.int64)
    return NewItems(np.arange(count).astype(object), rows, values, lengths, first)


class Perturbed(np.ndarray):
    """Vectors whose product rounds the later ones up."""

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        product = np.asarray(self) @ np.asarray(other)
        above = np.nextafter(product, np.float32(np.inf))
        return np.where(np.arange(len(product))[:, None] < len(product) // 2, product, above)


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
    new = numbered(values, first=1_000)
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


@pytest.mark.parametrize("cosine", [False, True])
def test_a_tie_across_the_cut_is_broken_by_position_however_the_product_rounds(
    cosine: bool,
) -> None:
    values = np.tile(np.array([0.3, 0.7, -0.2], dtype=np.float32), (8, 1))
    new = numbered(values.view(Perturbed), first=0)
    nothing = np.zeros(0, dtype=np.int64)
    vector = np.array([0.6, 0.8, 0.1], dtype=np.float32)
    positions, scores = best_with_new(
        nothing,
        nothing.astype(np.float32),
        new,
        vector,
        3,
        size=0,
        left_out=nothing,
        cosine=cosine,
    )
    assert positions.tolist() == [0, 1, 2]
    length = np.linalg.norm(values[0]) if cosine else 1
    np.testing.assert_allclose(scores, values[0] @ vector / length, rtol=1e-6)


def test_where_memory_runs_out_nothing_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = kept(1_000)
    given = np.array([1, 0], dtype=np.float32)
    for number in range(64):
        vectors.observe(f"k{number}", f"n{number}", 0, given)
    roomy, copies = new_items._roomy, list[int]()

    def short(values: np.ndarray) -> np.ndarray:
        copies.append(len(values))
        if len(copies) == 3:
            raise MemoryError
        return roomy(values)

    with monkeypatch.context() as patch:
        patch.setattr(new_items, "_roomy", short)
        with pytest.raises(MemoryError):
            vectors.observe("more", "more", 0, given)
    vectors.observe("more", "more", 0, given)
    new = vectors.items()
    assert new.ids.tolist() == [*(f"n{number}" for number in range(64)), "more"]
    np.testing.assert_array_equal(new.vectors, np.tile(given, (65, 1)))
    np.testing.assert_array_equal(new.lengths, np.ones(65))


def test_without_new_items_what_was_found_stays() -> None:
    none = kept(5).items()
    found = np.array([3, 1]), np.array([2.5, 0.5], dtype=np.float32)
    positions, scores = best_with_new(
        *found, none, np.ones(2, dtype=np.float32), 2, size=4, left_out=np.array([9])
    )
    assert (positions.tolist(), scores.tolist()) == ([3, 1], [2.5, 0.5])
