"""Where the process says that it listens, and what is seen of it after a signal to stop."""

import asyncio
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

import httpx
import pytest

from dualtower import models
from dualtower.serving.event import Event as OneEvent
from dualtower.serving.run import Listener
from dualtower.serving.server import Server
from dualtower.serving.store import open_store
from tests.retrieval.vectors import SumOfHistory
from tests.serving.clients import make_server

_PATIENCE = 60


@contextmanager
def listening(tmp_path: Path, drain_seconds: float) -> Iterator[tuple[Listener, str]]:
    """As `running`, of a small server."""
    with running(make_server(tmp_path, port=0, drain_seconds=drain_seconds)) as found:
        yield found


@contextmanager
def running(server: Server) -> Iterator[tuple[Listener, str]]:
    """A server in a thread, and the address that it says; the block has to stop it."""
    notes: SimpleQueue[str] = SimpleQueue()
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
    with listening(tmp_path, 0) as (listener, address):
        listener.handle_exit(signal.SIGINT, None)
    assert not listener.force_exit
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/ready")


def test_a_second_interrupt_loses_no_event_and_a_third_forces(tmp_path: Path) -> None:
    server = make_server(tmp_path, port=0, drain_seconds=3_600)
    store, writer = server.store, server._writer
    assert store is not None
    assert writer is not None
    begun, ending, lost = Event(), Event(), list[BaseException]()
    append, start, stop = store.append, server.start, server.stop
    loops = list[asyncio.AbstractEventLoop]()

    def slow(events: Sequence[OneEvent]) -> list[bool]:
        begun.set()
        assert ending.wait(_PATIENCE)
        return append(events)

    def started() -> None:
        loops.append(asyncio.get_running_loop())
        start()

    async def stopped() -> None:
        ending.set()
        await stop()

    store.append, server.start, server.stop = slow, started, stopped  # type: ignore[method-assign]
    with running(server) as (listener, _):
        shutdown = listener.shutdown

        async def shut(sockets: list[socket.socket] | None = None) -> None:
            await shutdown(sockets)
            ending.set()

        listener.shutdown = shut  # type: ignore[method-assign]
        loops[0].call_soon_threadsafe(writer.post, [OneEvent("a", "q1", "i1", 1.0)], lost.append)
        assert begun.wait(_PATIENCE)
        loops[0].call_soon_threadsafe(writer.post, [OneEvent("b", "q1", "i1", 2.0)], lost.append)
        listener.handle_exit(signal.SIGINT, None)
        listener.handle_exit(signal.SIGINT, None)
    assert not lost
    blocks = open_store(tmp_path / "events.db").replay()
    assert [event.event_id for block in blocks for event in block.events] == ["a", "b"]
    assert not listener.force_exit
    listener.handle_exit(signal.SIGINT, None)
    assert listener.force_exit
