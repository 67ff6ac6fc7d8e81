"""Whether a killed server loses an acknowledged event, or answers otherwise when it is back.

python -m benchmarks.kills [--cycles 500] [--results results/faults-kills.json]

Starts `dualtower serve`, sends it groups of mixed events over HTTP from two threads, and ends it
with SIGKILL: every other time in the middle of requests, and otherwise when all are answered, after
which its answers before and after the restart are compared byte by byte. Ctrl-C ends it after the
cycle under way, and the results say how many there were.
"""

import argparse
import http.client
import json
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.server_process import DUALTOWER, free_port, started
from benchmarks.small_bundle import ITEMS, QUERIES, make_bundle
from dualtower.evaluation.results import Measurements, processor, versions, write_results
from dualtower.progress import progress_bar
from dualtower.serving.sqlite_store import SqliteStore

GROUP = 20
"""Events of a request."""
THREADS = 2
ASKED = [*(f"q{row}" for row in range(8)), "new0", "new1"]
"""Queries whose answers are compared."""
_PATIENCE_SECONDS = 600


def main() -> None:
    """Kill, restart, compare, print and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=500)
    parser.add_argument("--groups", type=int, default=12, help="requests a cycle, at least")
    parser.add_argument("--results", type=Path, default=Path("results/faults-kills.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        run = kill_cycles(Path(name), arguments.cycles, arguments.groups)
    print(json.dumps(run, indent=2))
    write_results(
        arguments.results,
        Measurements(
            command=f"python -m benchmarks.kills --cycles {run['cycles']} "
            f"--groups {arguments.groups}",
            protocol="SIGKILL to the server, in the middle of requests or after all are answered, "
            "in turn; SQLite; a kill keeps what the kernel holds, so this says nothing of a power "
            "cut",
            versions=versions(),
            processor=processor(),
            runs=(run,),
        ),
    )
    if run["lost"] or run["answers_differ"]:
        raise SystemExit("an acknowledged event is lost, or an answer changed")


def kill_cycles(folder: Path, cycles: int, groups: int) -> dict[str, str | int | float]:
    """Start and kill the server so many times.

    Args:
        folder: for bundle and events.
        cycles: kills.
        groups: requests answered before each kill.
    """
    make_bundle(folder / "bundle")
    store_file = folder / "events.sqlite"
    rng = np.random.default_rng(0)
    acknowledged: set[str] = set()
    expected: list[bytes] | None = None
    compared = differ = done = 0
    with progress_bar("Kills", cycles, "cycles") as bar, _interruptible() as interrupted:
        for cycle in range(cycles):
            if interrupted.is_set():
                break
            port = free_port()
            options = ["serve", str(folder / "bundle"), "--events", str(store_file)]
            options += ["--port", str(port)]
            with started(DUALTOWER, options, port, seconds=_PATIENCE_SECONDS, quiet=True) as server:
                if expected is not None:
                    compared += len(expected)
                    pairs = zip(expected, _answers(port), strict=True)
                    differ += sum(before != after for before, after in pairs)
                sender = _Sender(port, cycle, rng)
                sender.run(groups, finish=cycle % 2 == 1)
                expected = _answers(port) if cycle % 2 == 1 else None
                server.kill()
                server.wait()
                acknowledged |= sender.finished()
            done += 1
            bar.advance(note=f"{len(acknowledged):,} acknowledged")
    store = SqliteStore(store_file)
    found = [event.event_id for block in store.replay() for event in block.events]
    store.close()
    return {
        "cycles": done,
        "acknowledged": len(acknowledged),
        "stored": len(found),
        "lost": len(acknowledged - set(found)),
        "stored_twice": len(found) - len(set(found)),
        "answers_compared": compared,
        "answers_differ": differ,
    }


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """What Ctrl-C sets instead of ending the process."""
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _answers(port: int) -> list[bytes]:
    """What the server recommends to `ASKED`."""
    bodies = ({"query_id": query, "n": 20} for query in ASKED)
    return [_request(port, "POST", "/recommend", body) for body in bodies]


class _Sender:
    """Threads that send groups of events until they are told to stop or the server is gone."""

    def __init__(self, port: int, cycle: int, rng: np.random.Generator) -> None:
        self._port = port
        self._cycle = cycle
        self._seeds = rng.integers(2**32, size=THREADS).tolist()
        self._acknowledged: set[str] = set()
        self._enough = threading.Event()
        self._stop = threading.Event()
        self._groups = 0
        self._threads: list[threading.Thread] = []

    def run(self, groups: int, *, finish: bool) -> None:
        """Send until so many groups are acknowledged, and if `finish`, nothing is on its way."""
        self._threads = [
            threading.Thread(target=self._send, args=(number, seed, groups))
            for number, seed in enumerate(self._seeds)
        ]
        for thread in self._threads:
            thread.start()
        self._enough.wait(_PATIENCE_SECONDS)
        if finish:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def finished(self) -> set[str]:
        """All ids that were acknowledged, once the server is gone."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self._acknowledged

    def _send(self, number: int, seed: int, groups: int) -> None:
        rng = np.random.default_rng(seed)
        group = 0
        while not self._stop.is_set():
            start = f"{self._cycle}/{number}/{group}"
            events = [_event(f"{start}/{place}", rng) for place in range(GROUP)]
            try:
                reply = json.loads(_request(self._port, "POST", "/events", {"events": events}))
            except (OSError, http.client.HTTPException):
                return
            assert len(reply["new"]) == GROUP
            self._acknowledged |= {event["event_id"] for event in events}
            self._groups += 1
            group += 1
            if self._groups >= groups:
                self._enough.set()


def _event(event_id: str, rng: np.random.Generator) -> dict[str, Any]:
    """Of any kind, query and item; some of each are new."""
    new_query, new_item = rng.random(2) < (0.2, 0.05)
    return {
        "event_id": event_id,
        "query_id": f"new{rng.integers(20)}" if new_query else f"q{rng.integers(QUERIES)}",
        "item_id": f"novelty{rng.integers(5)}" if new_item else f"i{rng.integers(ITEMS)}",
        "timestamp": time.time(),
        "kind": ["click", "order", "exposure"][rng.integers(3)],
    }


def _request(port: int, method: str, path: str, body: Any = None) -> bytes:
    """The reply's body.

    Raises:
        OSError: no connection, or another status than 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_SECONDS)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        found = reply.read()
    finally:
        connection.close()
    if reply.status != 200:
        raise OSError(f"{path}: {reply.status} {found[:200]!r}")
    return found


if __name__ == "__main__":
    main()
