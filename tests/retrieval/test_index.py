import os
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from dualtower.errors import ConfigError, DataError
from dualtower.retrieval.index import FLAT_BELOW, Index, IndexKind, build_index
from dualtower.retrieval.recall import tune_effort

KINDS: tuple[IndexKind, ...] = ("flat", "ivf", "hnsw", "compressed")


def clustered(count: int, seed: int, dim: int = 16) -> npt.NDArray[np.float32]:
    """Unit vectors around a hundred centres."""
    centres = np.random.default_rng(0).normal(size=(100, dim))
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(0, 100, count)] + generator.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def recall(index: Index, queries: npt.NDArray[np.float32], k: int) -> float:
    """An independent count of the exact top k found."""
    exact = np.argsort(-(queries @ index.vectors.T), axis=1)[:, :k]
    _, found = index.search(queries, k)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(exact, found, strict=True)]))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_inner_products_of_what_was_found(kind: IndexKind) -> None:
    vectors, queries = clustered(3_000, 1), 3 * clustered(20, 2)
    scores, positions = build_index(vectors, kind, effort=64).search(queries, 30)
    assert scores.dtype == np.float32
    expected = np.take_along_axis(queries @ vectors.T, positions, axis=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 30 for row in positions.tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_tuned_recall_whatever_the_lengths(kind: IndexKind, spread: float) -> None:
    # Vectors of very unequal length are where a graph by inner product finds 6%.
    lengths = np.exp(spread * np.random.default_rng(3).normal(size=(4_000, 1)))
    vectors = (clustered(4_000, 1) * lengths).astype(np.float32)
    queries = clustered(200, 2)
    index = build_index(vectors, kind)
    measured = tune_effort(index, queries, 50)
    assert measured.mean >= 0.99
    assert measured.first_percentile >= 0.9
    assert recall(index, queries, 50) == pytest.approx(measured.mean, abs=1e-3)
    assert index.is_exact == (kind == "flat")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1e-12, 1e-3, 1e9])
def test_the_scale_of_vectors_changes_nothing(kind: IndexKind, size: float) -> None:
    vectors, queries = clustered(500, 1), clustered(10, 2)
    _, expected = build_index(vectors, kind, effort=200).search(queries, 20)
    scaled = build_index(vectors * np.float32(size), kind, effort=200)
    _, found = scaled.search(queries * np.float32(size), 20)
    agree = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(expected, found, strict=True)])
    assert agree > 0.98


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_arguments_give_the_same_index(kind: IndexKind) -> None:
    vectors, queries = clustered(2_000, 1), clustered(50, 2)
    first = build_index(vectors, kind, seed=5).search(queries, 20)
    again = build_index(vectors, kind, seed=5).search(queries, 20)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 45])
def test_tiny_corpora_and_k_beyond_them(kind: IndexKind, count: int) -> None:
    vectors = clustered(count, 1)
    scores, positions = build_index(vectors, kind, effort=100).search(clustered(3, 2), 60)
    assert np.sort(positions[:, :count], axis=1).tolist() == [list(range(count))] * 3
    assert (positions[:, count:] == -1).all()
    assert np.isneginf(scores[:, count:]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_that_are_all_zero_or_all_equal(kind: IndexKind) -> None:
    for vectors in (np.zeros((300, 4)), np.ones((300, 4))):
        scores, _ = build_index(vectors.astype(np.float32), kind, effort=300).search(
            np.ones((2, 4), dtype=np.float32), 5
        )
        assert (scores == vectors[0].sum()).all()
    scores, _ = build_index(clustered(300, 1), kind).search(np.zeros((1, 16), np.float32), 5)
    assert (scores == 0).all()


def test_auto_goes_by_the_size_of_the_corpus() -> None:
    assert build_index(clustered(100, 1)).kind == "flat"
    assert build_index(clustered(FLAT_BELOW, 1, dim=2)).kind == "ivf"


def test_effort_is_within_what_the_kind_can_use() -> None:
    vectors = clustered(2_000, 1)
    assert build_index(vectors, "ivf", effort=10_000).parameters == {"clusters": 32, "effort": 32}
    assert build_index(vectors, "compressed", effort=7).parameters["effort"] == 7
    assert build_index(vectors, "hnsw", effort=99).parameters == {"neighbours": 32, "effort": 99}
    assert build_index(vectors, "flat", effort=9).parameters == {}


def test_vectors_and_arguments_that_do_not_fit() -> None:
    vectors = clustered(10, 1)
    with pytest.raises(ConfigError, match=r"index.kind: 'annoy' .* auto, flat, ivf, hnsw"):
        build_index(vectors, "annoy")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="index effort: 0; it should be 1 or more"):
        build_index(vectors, effort=0)
    with pytest.raises(DataError, match="at least one item"):
        build_index(vectors[:0])
    with pytest.raises(DataError, match=r"item vectors: row 4 .* NaN"):
        build_index(np.where(np.arange(10)[:, None] == 4, np.nan, vectors))
    index = build_index(vectors)
    with pytest.raises(ConfigError, match="k: 0 items asked for"):
        index.search(vectors, 0)
    with pytest.raises(DataError, match=r"query vectors: shape \[10, 3\]; .* \[queries, 16\]"):
        index.search(vectors[:, :3], 1)
    with pytest.raises(DataError, match=r"query vectors: row 0 .* NaN"):
        index.search(np.full((1, 16), np.nan, dtype=np.float32), 1)


@pytest.mark.parametrize("first", ["faiss", "torch", "dualtower.retrieval.index"])
def test_any_order_of_imports(first: str) -> None:
    # Faiss and PyTorch each bring an OpenMP of their own (faiss#3401).
    program = f"""
import {first}
import faiss, torch
import numpy as np
from dualtower.retrieval.index import build_index
torch.set_num_threads(2)
vectors = np.random.default_rng(0).normal(size=(4_000, 8)).astype(np.float32)
for kind in ("flat", "ivf", "hnsw", "compressed"):
    index = build_index(vectors, kind)
    assert index.threads == 2
    index.search(vectors[:200], 5)
    a = torch.randn(300, 300); (a @ a).sum()
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "fine"), done.stderr


def test_search_uses_the_threads_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    index = build_index(clustered(50, 1))
    given: list[int] = []
    monkeypatch.setattr("faiss.omp_set_num_threads", given.append)
    index.threads = 3
    index.search(clustered(1, 2), 1)
    assert given == [3]
