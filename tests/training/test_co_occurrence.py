import numpy as np
import pytest

from dualtower.data import arrays
from dualtower.training.co_occurrence import co_occurrence_vectors
from tests.helpers import tiny_dataset

LOGS = [[1, 2], [1, 2, 3, 2], [4, 5], [4, 5, 3], [1, 4]]


def by_hand(logs: list[list[int]], count: int) -> np.ndarray:
    """The matrix that the docstring describes, one pair of items at a time."""
    together = np.zeros((count, count))
    for items in (sorted(set(log)) for log in logs):
        for first in items:
            for second in items:
                together[first, second] += 1 / len(items)
    own = np.diag(together)
    return (together - np.diag(own)) / np.sqrt(np.outer(own + 1, own + 1))


def nearest(matrix: np.ndarray, rank: int) -> np.ndarray:
    """The nearest matrix of inner products of vectors that long."""
    values, vectors = np.linalg.eigh(matrix)
    order = np.argsort(-values)[:rank]
    return (vectors[:, order] * np.maximum(values[order], 0)) @ vectors[:, order].T


@pytest.mark.parametrize("dim", [2, 4, 12])
@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_inner_products_are_the_nearest_to_the_co_occurrence(
    monkeypatch: pytest.MonkeyPatch, dim: int, chunk: int
) -> None:
    monkeypatch.setattr(arrays, "CHUNK_EVENTS", chunk)
    log = tiny_dataset(LOGS, item_count=8).everything()
    vectors = co_occurrence_vectors(log, dim, 0, progress=False)
    assert vectors.shape == (8, dim)
    assert vectors.dtype == np.float32
    assert np.square(vectors[1:6]).mean() == pytest.approx(1 / dim, rel=1e-5)
    found, expected = vectors @ vectors.T, nearest(by_hand(LOGS, 8), dim)
    assert found / np.trace(found) == pytest.approx(expected / np.trace(expected), abs=1e-5)
    assert not vectors[[0, 6, 7]].any()  # nobody's items


def test_short_logs_do_not_lead_it_to_the_negative_directions() -> None:
    """Two sides that only meet each other: every eigenvalue is there with its opposite, too."""
    rng = np.random.default_rng(0)
    tastes = rng.integers(3, size=200)
    logs = []
    for _ in range(2000):
        first = rng.integers(100)
        other = rng.choice(np.flatnonzero(tastes[100:] == tastes[first])) + 100
        logs.append([int(first) + 1, int(other) + 1])
    vectors = co_occurrence_vectors(tiny_dataset(logs).everything(), 3, 0, progress=False)
    matrix = by_hand(logs, len(vectors))
    expected = nearest(matrix, 3)
    found = vectors @ vectors.T
    found *= np.trace(expected) / np.trace(found)
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def test_only_targets_count() -> None:
    dataset = tiny_dataset([[5, 1, 2], [4, 1, 2], [3, 1, 2]])
    log = dataset.everything()
    later = type(log)(dataset, log.start + np.array([0, 1, 1, 1]), log.end, log.corpus)
    vectors = co_occurrence_vectors(later, 2, 0, progress=False)
    assert np.abs(vectors[3:]).max() < 1e-6
    assert vectors[1] == pytest.approx(vectors[2], rel=1e-4)


def test_the_leading_directions_of_many_items_are_found() -> None:
    rng = np.random.default_rng(0)
    groups = np.arange(200).reshape(4, 50) + 1
    logs = [rng.choice(groups[number % 4], 6).tolist() for number in range(400)]
    vectors = co_occurrence_vectors(tiny_dataset(logs).everything(), 4, 1, progress=False)[1:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (vectors @ vectors.T).reshape(4, 50, 4, 50).mean((1, 3))
    assert np.diag(cosines).min() > 0.9
    assert cosines[~np.eye(4, dtype=bool)].max() < 0.1


def test_without_a_shared_query_all_is_zero() -> None:
    log = tiny_dataset([[1], [2], [3]]).everything()
    assert not co_occurrence_vectors(log, 2, 0, progress=False).any()
