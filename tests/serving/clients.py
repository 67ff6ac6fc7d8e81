"""A small server, and a client of it that asks as one on this machine does."""

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from dualtower.experiments.assignment import Experiment
from dualtower.serving.app import make_app
from dualtower.serving.server import Server, open_deck
from dualtower.serving.settings import ServeConfig
from dualtower.serving.store import open_store
from tests.serving.bundles import save_plane


def local_client(server: Server, **options: Any) -> TestClient:
    """A client that sends `Host: 127.0.0.1`, unless `options` say otherwise."""
    return TestClient(make_app(server), **{"base_url": "http://127.0.0.1", **options})


def make_server(tmp_path: Path, experiment: Experiment | None = None, **settings: Any) -> Server:
    """A server of the plane bundle, with bundle and events below `tmp_path` and low limits."""
    folder = tmp_path / "bundle"
    if not folder.exists():
        save_plane(folder)
    store = open_store(tmp_path / "events.db")
    config = ServeConfig(**{"max_n": 100, "max_batch": 3, "max_exclusions": 4, **settings})
    deck = open_deck(folder, store, experiment, config.max_new_items)
    return Server(deck, store, config)
