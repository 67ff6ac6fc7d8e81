import asyncio

import numpy as np
import pytest

from benchmarks.load import (
    arrivals,
    arrivals_until,
    closed_loop,
    open_loop,
    random_requests,
    recommend_request,
    request,
)


def test_arrivals_have_the_rate_and_are_irregular() -> None:
    times = arrivals(100.0, 100.0, seed=1)
    assert len(times) == 10_000
    assert times[-1] == pytest.approx(100, rel=0.05)
    assert np.diff(times).std() == pytest.approx(0.01, rel=0.05)  # as large as the mean


def test_both_loops_count_answers_failures_and_short_ones() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            asked.append(await reader.readexactly(length))
            status = b"500 Bad" if len(asked) == 3 else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 4\r\n\r\nabcd")

    async def work() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        requests = random_requests(lambda query: recommend_request(port, query, 7), 5, seed=0)
        load = await open_loop(port, requests, [0.0] * 6, smallest=4, connections=2)
        assert (len(load.latencies), load.wrong, load.short) == (6, {"500": 1}, 0)
        load = await closed_loop(port, requests, 2, 0.01, smallest=5)
        assert load.failures == 0
        assert load.short == len(load.latencies) > 0
        server.close()

    asyncio.run(work())
    assert asked[0].startswith(b'{"query_id":')
    assert asked[0].endswith(b',"n":7}')


def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def work() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        requests = iter([request(port, "/ready")] * 3)
        load = await open_loop(port, requests, [0.0, 0.2, 0.4], smallest=0, connections=1)
        assert (len(load.latencies), load.failures) == (3, 0)
        server.close()

    asyncio.run(work())


def test_a_server_that_is_gone_is_a_failure() -> None:
    async def work() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        load = await open_loop(port, iter([b"x"]), [0.0], smallest=0, connections=0)
        assert load.wrong == {"no connection": 1}
        assert (len(load.latencies), load.failures) == (1, 1)

    asyncio.run(work())


def test_arrivals_end_when_told() -> None:
    done = asyncio.Event()
    times = []
    for at in arrivals_until(done, 100.0, seed=1):
        times.append(at)
        if len(times) == 1_000:
            done.set()
    assert len(times) == 1_000
    assert times[-1] == pytest.approx(10, rel=0.1)


def test_a_request_with_and_without_a_body() -> None:
    assert request(80, "/ready") == b"GET /ready HTTP/1.1\r\nhost: 127.0.0.1:80\r\n\r\n"
    assert request(80, "/bundle", b"{}", "secret") == (
        b"POST /bundle HTTP/1.1\r\nhost: 127.0.0.1:80\r\nauthorization: Bearer secret\r\n"
        b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )
