"""Small trained bundles for the tests of this room."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import dualtower as dt
from dualtower.data.dataset import Dataset, Log
from dualtower.models.dat import DAT
from dualtower.retrieval.bundle import Bundle
from dualtower.serving.event import Event, Id
from tests.helpers import tiny_dataset
from tests.retrieval.vectors import SumOfHistory
from tests.training.runs import dat, loop

# Items i1 … i5 point along the plane: i1, i2, i3 near the first axis, i4, i5 near the second.
PLANE = np.array([[0, 0], [1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-0.6, 0.8]])
ITEMS = 20
"""Items i1 … i20; i19 and i20 have no event in training, so they are not in the corpus."""
LENGTH = 4
"""Events that the model reads one by one."""


def plane_bundle(vectors: Any = PLANE) -> Bundle:
    """Queries q1 … q4 and items i1 … i5, scored by the sum of the history's vectors."""
    data = tiny_dataset(
        [[1], [4, 1], [], [1, 2, 3, 4, 5]],
        item_count=6,
        categories=["tea", "tea", "cake", "cake", None],
    )
    return Bundle.build(SumOfHistory.of(data.space(), vectors), data, progress=False)


def save_plane(folder: Path, vectors: Any = PLANE) -> Path:
    """Write `plane_bundle` to a folder."""
    plane_bundle(vectors).save(folder)
    return folder


def dataset() -> Dataset:
    """Queries q1 … q16 that walk around a ring of 18 items, with six events each."""
    rng = np.random.default_rng(3)
    walks = (rng.integers(18) + rng.integers(1, 3, size=6).cumsum() for _ in range(16))
    return tiny_dataset([(walk % 18 + 1).tolist() for walk in walks], item_count=ITEMS + 1)


def bundle_of(model: Any) -> Bundle:
    """A bundle of `model` after a short fit on `dataset`."""
    data = dataset()
    dt.fit(model, data.everything(), training=loop(epochs=4, batch_size=16), progress=False)
    log = Log(data, data.offsets[:-1], data.offsets[1:], np.arange(1, 19, dtype=np.int64))
    return Bundle.build(model, log, progress=False)


@cache
def dat_bundle() -> Bundle:
    """A DAT in its default form."""
    return bundle_of(trained())


def trained(**settings: Any) -> DAT:
    """An unfitted small DAT whose history is short."""
    return dat(history_length=LENGTH, **settings)


def clicks(query_id: Id, *items: Id, first: int = 0) -> list[Event]:
    """A click on each item; event ids are numbered from `first`."""
    return [
        Event(f"{query_id}/{first + number}", query_id, item, number)
        for number, item in enumerate(items)
    ]
