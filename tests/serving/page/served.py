"""Small servers for the page's tests."""

from pathlib import Path
from typing import Any

import numpy as np

from dualtower.experiments.assignment import Arm, Experiment
from dualtower.serving.server import Server, open_deck
from dualtower.serving.settings import ServeConfig
from dualtower.serving.store import open_store
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


def two_arms(tmp_path: Path) -> Experiment:
    arms = (
        Arm(name="plane", bundle=str(save_plane(tmp_path / "bundle"))),
        Arm(name="turned", bundle=str(save_plane(tmp_path / "other", TURNED))),
    )
    return Experiment(name="test", salt="s", arms=arms)
