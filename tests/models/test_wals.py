"""WALS: the library's factors, and queries folded in exactly."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse

from dualtower import Bundle
from dualtower.data.columns import QueryBatch, Ragged
from dualtower.data.dataset import Dataset
from dualtower.errors import ConfigError
from dualtower.models import wals
from dualtower.models.wals import WALS
from tests.helpers import leave_last_out_by_hand, tiny_dataset

ITEMS = 31
"""Rows of the item vocabulary; the last three items have no events."""


def logs(queries: int = 40) -> list[list[int]]:
    """Logs of different lengths, some with repeats."""
    random = np.random.default_rng(0)
    return [
        random.integers(1, ITEMS - 3, size).tolist()
        for size in random.integers(3, 25, queries).tolist()
    ]


def dataset() -> Dataset:
    return tiny_dataset(logs(), item_count=ITEMS)


def solved(**settings: Any) -> WALS:
    model = WALS(**{"factors": 6, "regularization": 0.7, "alpha": 4.0, **settings})
    model.solve(dataset().everything())
    return model


def batch_of(histories: list[list[int]]) -> QueryBatch:
    return tiny_batch([np.array(history, dtype=np.int32) for history in histories])


def tiny_batch(histories: list[np.ndarray]) -> QueryBatch:
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in histories])])
    values = np.concatenate([*histories, np.zeros(0, dtype=np.int32)]).astype(np.int32)
    return QueryBatch(
        np.zeros(len(histories), dtype=np.int64), Ragged(values, offsets.astype(np.int64)), {}, {}
    )


def by_hand(model: WALS, history: list[int]) -> np.ndarray:
    """The minimiser by a sum over every item of the vocabulary, one after the other."""
    items = model.encode_items().astype(np.float64)
    size = items.shape[1]
    left, right = model.config.regularization * np.eye(size), np.zeros(size)
    for row, vector in enumerate(items):
        confidence = model.config.alpha if row in history else 1.0
        left += confidence * np.outer(vector, vector)
        right += confidence * float(row in history) * vector
    return np.linalg.solve(left, right)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0, 80.0])
def test_a_query_is_the_minimiser_given_its_history(alpha: float):
    model = solved(alpha=alpha)
    histories = [[3], [1, 2, 3], [5, 5, 2, 5], list(range(1, ITEMS)), [30]]
    vectors = model.encode_queries(batch_of(histories))
    for vector, history in zip(vectors, histories, strict=True):
        assert vector == pytest.approx(by_hand(model, history), rel=1e-4, abs=1e-6)


def test_queries_are_those_that_the_library_recalculates():
    model = solved()
    histories = logs(12)
    theirs = AlternatingLeastSquares(factors=6, regularization=0.7, alpha=4.0, num_threads=1)
    theirs.item_factors = model.encode_items()
    matrix = np.zeros((12, ITEMS), dtype=np.float32)
    for row, history in enumerate(histories):
        matrix[row, history] = 1
    expected = theirs.recalculate_user(np.arange(12), sparse.csr_matrix(matrix))
    ours = model.encode_queries(batch_of(histories))
    assert ours == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    model, batch = solved(), batch_of([*logs(20), [], [7]])
    whole = model.encode_queries(batch)
    for size in (1, 6 * 20, 6 * 70):
        monkeypatch.setattr(wals, "_BLOCK_FACTORS", size)
        assert model.encode_queries(batch) == pytest.approx(whole, rel=1e-5, abs=1e-7)


def test_without_history_the_vector_is_zero_also_among_others():
    vectors = solved().encode_queries(batch_of([[], [1, 2], []]))
    assert not vectors[[0, 2]].any()
    assert vectors[1].any()


def test_alternation_has_reached_the_items_minimum_as_well():
    """At the end of many iterations every item is the minimiser given all queries, and the loss
    over all pairs is no more than at points around it."""
    model = solved(iterations=200)
    items = model.encode_items()
    batch = batch_of(logs())
    queries = model.encode_queries(batch)
    matrix = np.zeros((len(queries), ITEMS))
    for row, log in enumerate(logs()):
        matrix[row, log] = 1
    weights = np.where(matrix > 0, 4.0, 1.0)

    def loss(left: np.ndarray, right: np.ndarray) -> float:
        fit = (weights * (matrix - left @ right.T) ** 2).sum()
        return float(fit + 0.7 * ((left**2).sum() + (right**2).sum()))

    best = loss(queries, items)
    random = np.random.default_rng(1)
    for _ in range(20):
        moved = items + 0.01 * random.normal(size=items.shape) * (items != 0)
        assert loss(queries, moved) > best
        assert loss(queries + 0.01 * random.normal(size=queries.shape), items) > best


def test_items_without_events_and_the_unknown_are_zero():
    items = solved().encode_items()
    assert items.shape == (ITEMS, 6)
    assert items.dtype == np.float32
    assert not items[[0, 28, 29, 30]].any()
    assert (np.abs(items[1:28]).sum(axis=1) > 0).all()


def test_a_seed_gives_the_same_factors_on_any_number_of_threads():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = solved().encode_items()
        torch.set_num_threads(3)
        three = solved().encode_items()
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(one, three)
    assert not np.array_equal(one, solved(seed=1).encode_items())


def test_the_library_neither_warns_nor_prints(capsys: pytest.CaptureFixture[str]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solved()
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""


def test_without_the_library_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    model = WALS()
    with pytest.raises(ConfigError, match=r"wals: the library implicit .*'dualtower\[wals\]'"):
        model.solve(dataset().everything())
    assert not model.fitted


def test_a_bundle_loads_and_serves_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    split = leave_last_out_by_hand(dataset())
    model = WALS(factors=6)
    model.solve(split.train)
    built = Bundle.build(model, split.train, progress=False).save(tmp_path / "bundle")
    for name in ("implicit", "implicit.cpu", "implicit.cpu.als", "threadpoolctl"):
        monkeypatch.setitem(sys.modules, name, None)
    loaded = Bundle.load(tmp_path / "bundle")
    assert not loaded.manifest.normalised
    found = loaded.recommend(["q3"], n=5)
    assert found.equals(built.recommend(["q3"], n=5))

    row = np.array([3])
    scores = model.score(split.validation.requests(row))[0].copy()
    scores[split.train.targets(row).values] = -np.inf
    scores[0] = -np.inf
    best = np.argsort(-scores, kind="stable")[:5]
    assert found["item_id"].to_list() == [f"i{item}" for item in best]
    assert found["score"].to_list() == pytest.approx(scores[best].tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("factors", 0), ("regularization", 0), ("alpha", 0), ("iterations", 0), ("seed", -1)],
)
def test_settings_out_of_range_are_named(setting: str, value: float):
    with pytest.raises(ConfigError, match=rf"wals is not valid:\n  {setting}: "):
        WALS(**{setting: value})
