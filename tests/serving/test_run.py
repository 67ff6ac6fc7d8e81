"""Where the process says that it listens, and what is seen of it after a signal to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import httpx
import pytest

from dualtower import models
from dualtower.serving.run import Listener
from tests.retrieval.vectors import SumOfHistory
from tests.serving.clients import make_server

_PATIENCE = 60


@contextmanager
def listening(tmp_path: Path, drain_seconds: float) -> Iterator[tuple[Listener, str]]:
    """A server in a thread, and the address that it says; the block has to stop it."""
    notes: SimpleQueue[str] = SimpleQueue()
    server = make_server(tmp_path, port=0, drain_seconds=drain_seconds)
    listener = Listener(server, notes.put)
    thread = Thread(target=listener.run, daemon=True)
    thread.start()
    yield listener, notes.get(timeout=_PATIENCE).split()[2]
    thread.join(_PATIENCE)
    assert not thread.is_alive()


@pytest.fixture(autouse=True)
def known_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "sum_of_history", SumOfHistory)


def test_after_a_signal_it_is_not_ready_and_still_answers(tmp_path: Path) -> None:
    with listening(tmp_path, 3_600) as (listener, address):
        assert not address.endswith(":0")
        assert httpx.get(f"{address}/ready").status_code == 200
        listener.handle_exit(signal.SIGTERM, None)
        reply = httpx.get(f"{address}/ready")
        assert (reply.status_code, reply.json()) == (503, {"status": "stopping"})
        asked = {"query_id": "q1", "n": 1}
        assert httpx.post(f"{address}/recommend", json=asked).json()["items"] == ["i2"]
        listener.handle_exit(signal.SIGTERM, None)  # a second one ends the wait


def test_without_a_drain_one_signal_stops_it(tmp_path: Path) -> None:
    with listening(tmp_path, 0) as (listener, _):
        listener.handle_exit(signal.SIGINT, None)
        assert listener._server.stopping
