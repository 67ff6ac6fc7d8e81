"""A load generator: requests at a given rate whatever the answers do, or as fast as they come.

Latency of the open loop counts from the moment at which a request was due, so a server that falls
behind cannot hide it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np

_IDLE = 3.0
"""Seconds; servers close a connection that was not used for five."""
_MOST_CONNECTIONS = 512
"""Of an open loop at a time; beyond that requests wait, and their latency grows."""
_GOOD, _BROKE, _NONE = "200", "connection broke", "no connection"


@dataclass
class Load:
    """What a run of requests gave."""

    seconds: float = 0.0
    """From the first request to the last answer."""
    latencies: list[float] = field(default_factory=list)
    """Of each answer, in seconds."""
    wrong: Counter[str] = field(default_factory=Counter)
    """How often a request failed, by what came instead of an answer with status 200."""
    short: int = 0
    """Answers smaller than an answer of a hundred items can be."""

    @property
    def failures(self) -> int:
        """Requests without an answer of status 200."""
        return self.wrong.total()

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile_ms(self, percent: float) -> float:
        """A percentile of the latency in milliseconds."""
        return float(np.percentile(self.latencies, percent) * 1_000) if self.latencies else 0.0


class _Connection(asyncio.Protocol):
    """One kept-alive connection with at most one request under way."""

    def __init__(self, smallest: int) -> None:
        self._smallest = smallest
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[str, bool]] | None = None
        self._transport: asyncio.Transport | None = None
        self._used = time.perf_counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> "asyncio.Future[tuple[str, bool]]":
        """Send a request; gives the status that answered it, and whether in full."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._received.clear()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Wait for head and body."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        head = bytes(self._received[:end]).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self._received) >= end + 4 + length:
            self._used = time.perf_counter()
            self._answer.set_result((head[9:12].decode(), length >= self._smallest))

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and not about to be closed by a server for want of use."""
        idle = time.perf_counter() - self._used
        return self._transport is not None and not self._transport.is_closing() and idle < _IDLE

    def connection_lost(self, error: Exception | None) -> None:
        """A request under way has failed."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((_BROKE, True))

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()


def request(port: int, path: str, body: bytes | None = None, token: str | None = None) -> bytes:
    """A request to this machine: POST with a JSON body, or GET without one."""
    head = [
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
        f"host: 127.0.0.1:{port}",
    ]
    if token is not None:
        head.append(f"authorization: Bearer {token}")
    if body is not None:
        head += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join((*head, "", "")).encode() + (body or b"")


def recommend_request(port: int, query_id: int, n: int, token: str | None = None) -> bytes:
    """POST /recommend for one query."""
    return request(port, "/recommend", b'{"query_id":%d,"n":%d}' % (query_id, n), token)


async def ask(port: int, content: bytes) -> bool:
    """Send one request over a connection of its own; whether it was answered with 200."""
    connection = await _open(port, 0)
    status, _ = await connection.ask(content)
    connection.close()
    return status == _GOOD


async def closed_loop(
    port: int, requests: Iterator[bytes], connections: int, seconds: float, smallest: int
) -> Load:
    """As fast as answers come, over so many connections."""
    load = Load()
    opened = [await _open(port, smallest) for _ in range(connections)]
    start = time.perf_counter()

    async def work(connection: _Connection) -> None:
        while (begun := time.perf_counter()) - start < seconds:
            status, full = await connection.ask(next(requests))
            _count(load, begun, status, full)

    await asyncio.gather(*map(work, opened))
    load.seconds = time.perf_counter() - start
    for connection in opened:
        connection.close()
    return load


async def open_loop(
    port: int,
    requests: Iterator[bytes],
    due: Iterable[float],
    smallest: int,
    connections: int = 32,
) -> Load:
    """Each request at its time, over as many connections as that needs.

    Args:
        port: of the server on this machine.
        requests: what to send.
        due: seconds after the start, ascending.
        smallest: bytes below which an answer counts as short.
        connections: opened beforehand; more are opened when all are busy.
    """
    load = Load()
    free = [await _open(port, smallest) for _ in range(connections)]
    everything = list(free)
    tasks: set[asyncio.Task[None]] = set()
    room = asyncio.Semaphore(_MOST_CONNECTIONS)
    start = time.perf_counter()

    async def one(at: float) -> None:
        async with room:
            await send(at)

    async def send(at: float) -> None:
        while free and not free[-1].is_usable:
            free.pop().close()
        if not free:
            try:
                free.append(await _open(port, smallest))
            except OSError:
                _count(load, start + at, _NONE, full=True)
                return
            everything.append(free[-1])
        connection = free.pop()
        status, full = await connection.ask(next(requests))
        if status != _BROKE:
            free.append(connection)
        _count(load, start + at, status, full)

    for at in due:
        wait = start + at - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(at))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    load.seconds = time.perf_counter() - start
    for connection in everything:
        connection.close()
    return load


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Times of a Poisson process, in seconds from 0."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / rate, size=max(1, round(rate * seconds)))
    times: list[float] = np.cumsum(gaps).tolist()
    return times


def arrivals_until(done: asyncio.Event, rate: float, seed: int) -> Iterator[float]:
    """The same without an end, until `done` is set."""
    random = np.random.default_rng(seed)
    at = 0.0
    while not done.is_set():
        at += float(random.exponential(1 / rate))
        yield at


def random_requests(
    make: Callable[[int], bytes], queries: int, seed: int, at_once: int = 65_536
) -> Iterator[bytes]:
    """Endless requests of random queries out of 0 … queries - 1."""
    random = np.random.default_rng(seed)
    while True:
        for query in random.integers(0, queries, at_once).tolist():
            yield make(query)


def print_wrong(load: Load) -> None:
    """Say what came instead of an answer, and how often."""
    for what, count in load.wrong.items():
        print(f"failed: {count} × {what}", flush=True)


async def _open(port: int, smallest: int) -> _Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: _Connection(smallest), "127.0.0.1", port)
    return connection


def _count(load: Load, begun: float, status: str, full: bool) -> None:
    load.latencies.append(time.perf_counter() - begun)
    if status != _GOOD:
        load.wrong[status] += 1
    load.short += status == _GOOD and not full
