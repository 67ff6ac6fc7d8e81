"""Small servers for the page's tests."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dualtower.experiments.assignment import Arm, Experiment
from dualtower.retrieval.bundle import Bundle
from dualtower.serving.server import Server, open_deck
from dualtower.serving.settings import ServeConfig
from dualtower.serving.store import open_store
from tests.helpers import tiny_dataset
from tests.retrieval.vectors import SumOfHistory
from tests.serving.bundles import save_plane

# Angles from i1 grow with the item's number in PLANE; TURNED has another order.
TURNED = np.array([[0, 0], [1, 0], [0, 1], [0, 1], [0.6, 0.8], [1, 0]])
TOKEN = "a-token-of-sixteen-characters"


def make(
    tmp_path: Path, experiment: Experiment | None = None, *, events: bool = True, **settings: Any
) -> Server:
    folder = tmp_path / "bundle"
    if not folder.exists():
        save_plane(folder)
    store = open_store(tmp_path / "events.db") if events else None
    return Server(open_deck(folder, store, experiment), store, ServeConfig(max_n=50, **settings))


def save_numbers(folder: Path) -> None:
    """Ids and categories that are numbers, as public data has them.

    Query 1 has 40 events, of items 1001 … 1040; the corpus goes on to 1080, and query 2 has one
    event. The vectors go around from the first axis to the second.
    """
    data = tiny_dataset(
        [list(range(1, 41)), [80]],
        item_count=81,
        categories=[("1", "64", "Documentary")[item % 3] for item in range(80)],
        query_ids=pl.Series([1, 2]),
        item_ids=pl.Series(range(1001, 1081)),
    )
    angles = np.linspace(0, np.pi / 2, 81)
    vectors = np.column_stack([np.cos(angles), np.sin(angles)])
    Bundle.build(SumOfHistory.of(data.space(), vectors), data, progress=False).save(folder)


def two_arms(tmp_path: Path) -> Experiment:
    arms = (
        Arm(name="plane", bundle=str(save_plane(tmp_path / "bundle"))),
        Arm(name="turned", bundle=str(save_plane(tmp_path / "other", TURNED))),
    )
    return Experiment(name="test", salt="s", arms=arms)
