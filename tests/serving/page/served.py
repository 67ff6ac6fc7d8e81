"""Small servers for the page's tests."""

from pathlib import Path
from typing import Any

import numpy as np

from dualtower.experiments.assignment import Arm, Experiment
from dualtower.retrieval.bundle import Bundle
from dualtower.serving.server import Server, open_deck
from dualtower.serving.settings import ServeConfig
from dualtower.serving.store import open_store
from tests.helpers import tiny_dataset
from tests.retrieval.vectors import SumOfHistory

# Angles from i1 grow with the item's number, as in ../test_app.py; TURNED has another order.
PLANE = np.array([[0, 0], [1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-0.6, 0.8]])
TURNED = np.array([[0, 0], [1, 0], [0, 1], [0, 1], [0.6, 0.8], [1, 0]])
TOKEN = "a-token-of-sixteen-characters"


def save(folder: Path, vectors: Any = PLANE) -> Path:
    dataset = tiny_dataset(
        [[1], [4, 1], [], [1, 2, 3, 4, 5]],
        item_count=6,
        categories=["tea", "tea", "cake", "cake", None],
    )
    Bundle.build(SumOfHistory.of(dataset.space(), vectors), dataset, progress=False).save(folder)
    return folder


def make(
    tmp_path: Path, experiment: Experiment | None = None, *, events: bool = True, **settings: Any
) -> Server:
    folder = tmp_path / "bundle"
    if not folder.exists():
        save(folder)
    store = open_store(tmp_path / "events.db") if events else None
    return Server(open_deck(folder, store, experiment), store, ServeConfig(max_n=50, **settings))


def two_arms(tmp_path: Path) -> Experiment:
    arms = (
        Arm(name="plane", bundle=str(save(tmp_path / "bundle"))),
        Arm(name="turned", bundle=str(save(tmp_path / "other", TURNED))),
    )
    return Experiment(name="test", salt="s", arms=arms)
