import json
import socket
from asyncio import AbstractEventLoop
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from pydantic import SecretStr
from uvicorn import Config
from uvicorn.server import ServerState

from dualtower import models
from dualtower.serving.engine import Engine
from dualtower.serving.front import Front, names_this_machine
from dualtower.serving.http import MISTAKE
from dualtower.serving.protocol import Protocol, plain_request
from dualtower.serving.ranking import Ranking
from dualtower.serving.routes import Routes
from dualtower.serving.run import host_of_url, http_options
from dualtower.serving.server import Server, open_deck
from dualtower.serving.settings import ServeConfig
from dualtower.serving.store import open_store
from tests.retrieval.vectors import SumOfHistory
from tests.serving.bundles import save_plane
from tests.serving.page.browser import listening

TOKEN = "a-token-of-sixteen-characters"
ASKED = b'{"query_id": "q1", "n": 3}'
HEAD = (b"host: 127.0.0.1", b"content-type: application/json")


def post(body: bytes = ASKED, *head: bytes, start: bytes = b"POST /recommend HTTP/1.1") -> bytes:
    """A request as it goes over the wire; `head` in place of the usual headers."""
    length = b"content-length: %d" % len(body)
    return b"\r\n".join((start, *(head or (*HEAD, length)), b"", body))


def chunked(body: bytes = ASKED, *head: bytes) -> bytes:
    """The same, as no short way takes it."""
    lines = (b"POST /recommend HTTP/1.1", *(head or HEAD), b"transfer-encoding: chunked")
    return b"\r\n".join((*lines, b"", b"%x" % len(body), body, b"0", b"", b""))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setitem(models.MODELS, "sum_of_history", SumOfHistory)
    folder = save_plane(tmp_path / "bundle")
    store = open_store(tmp_path / "events.db")
    settings = ServeConfig(max_n=100, max_body_bytes=1_000)
    return Server(open_deck(folder, store, None), store, settings)


@pytest.fixture
def port(server: Server) -> Iterator[int]:
    with listening(server) as address:
        yield int(address.rpartition(":")[2].strip("/"))


def talk(port: int, *parts: bytes, answers: int = 1) -> list[tuple[bytes, dict[bytes, bytes], Any]]:
    """Send parts one after the other; status line, headers and body of each answer."""
    found = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
        with connection.makefile("rb") as file:
            for _ in range(answers):
                status, headers = file.readline().strip(), {}
                while line := file.readline().strip():
                    name, _, value = line.partition(b": ")
                    headers[name] = value
                content = file.read(int(headers[b"content-length"]))
                is_json = headers[b"content-type"] == b"application/json"
                found.append((status, headers, json.loads(content) if is_json else content))
    return found


def test_what_counts_as_plain() -> None:
    assert plain_request(post()) == (
        [
            (b"host", b"127.0.0.1"),
            (b"content-type", b"application/json"),
            (b"content-length", b"26"),
        ],
        ASKED,
    )
    spaced = post(b"{}", b"Content-Length:2 ", b"X-Id:\t a\xe9 b ", b"Connection: keep-alive")
    expected = [(b"content-length", b"2"), (b"x-id", b"a\xe9 b"), (b"connection", b"keep-alive")]
    assert plain_request(spaced) == (expected, b"{}")


@pytest.mark.parametrize(
    "data",
    [
        post()[:-1],  # not all of it
        post() + b"P",  # more than it
        post()[:40],
        b"",
        post(start=b"POST /recommend HTTP/1.0"),
        post(start=b"POST /recommend/batch HTTP/1.1"),
        post(start=b"GET /recommend HTTP/1.1"),
        post(b"{}", *HEAD),  # no length
        post(b"{}", b"content-length: 2", b"content-length: 2"),
        post(b"{}", b"content-length: +2"),
        post(b"{}", b"content-length: 0000000002"),
        post(b"{}", b"content-length: 2", b"transfer-encoding: chunked"),
        post(b"{}", b"content-length: 2", b"connection: close"),
        post(b"{}", b"content-length: 2", b"expect: 100-continue"),
        post(b"{}", b"content-length: 2", b"upgrade: h2c"),
        post(b"{}", b"content-length : 2"),
        post(b"{}", b"content-length: 2", b"a: b\nc: d"),
        post(b"{}", b"content-length: 2", b" folded: line"),
        post(b"{}", b"content-length: 2", b"a: \0"),
        post(b"{}", b"content-length: 2", b"a: " + b"x" * 9_000),
        chunked(),
    ],
)
def test_what_is_left_to_uvicorn(data: bytes) -> None:
    assert plain_request(data) is None


def test_both_ways_reply_the_same(port: int, server: Server) -> None:
    wrong_host = (b"host: example.org", HEAD[1])
    cases = [
        (ASKED, HEAD, b"200"),
        (b'{"n": 0}', HEAD, b"422"),
        (b"{", HEAD, b"422"),
        (b'{"exclude": ["' + b"x" * 1_000 + b'"]}', HEAD, b"413"),
        (ASKED, (HEAD[0], b"content-type: text/plain"), b"415"),
        (ASKED, wrong_host, b"421"),
    ]
    for body, head, status in cases:
        length = b"content-length: %d" % len(body)
        assert plain_request(post(body, *head, length)) is not None
        short, long = (
            talk(port, sent)[0] for sent in (post(body, *head, length), chunked(body, *head))
        )
        assert status in short[0]
        assert short[0] == long[0]
        if status != b"413":  # one says how much it is, the other that it is more
            assert short[1].keys() == long[1].keys()
            assert {**short[1], b"date": b""} == {**long[1], b"date": b""}
            assert short[2] == long[2]
    counts = server.metrics.requests
    assert counts["/recommend", 200] == 2
    assert counts["/recommend", 422] == 4


def test_ways_change_within_a_connection(port: int) -> None:
    get = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    parts = (post(), post()[:30], post()[30:] + chunked(), post() + post(), get, post(), post()[:9])
    expected = ["i2", "i3", "i4"]
    answers = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        file = connection.makefile("rb")
        for part, count in zip(parts, (1, 0, 2, 2, 1, 1, 0), strict=True):
            connection.sendall(part)
            for _ in range(count):
                assert file.readline().startswith(b"HTTP/1.1 200")
                length = 0
                while line := file.readline().strip():
                    if line.startswith(b"content-length"):
                        length = int(line.partition(b": ")[2])
                answers.append(json.loads(file.read(length)))
    assert [answer.get("items") for answer in answers] == [expected] * 5 + [None, expected]
    assert answers[5] == {"status": "alive"}


def test_a_mistake_of_ours_is_a_500_and_counts_once(
    port: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Engine, "recommend", fail)
    for count, sent in enumerate((post(), chunked()), start=1):
        status, _, body = talk(port, sent)[0]
        assert b"500" in status
        assert body == {"error": MISTAKE}
        assert server.metrics.failed_answers.total() == count
        assert server.metrics.requests["/recommend", 500] == count


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /" + b"x" * 60_000, b"x" * 60_000),
        (b"GET / HTTP/1.1\r\na: b", b"x" * 60_000),
        (b"GET / HTTP/1.1\r\n", b"name: value\r\n" * 5_000),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
         b"a: " + b"x" * 60_000 + b"\r\n"),
    ],
)  # fmt: skip
def test_a_request_without_an_end_is_ended(port: int, start: bytes, more: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(start)
        sent = 0
        with suppress(ConnectionError):
            while sent < 1_000:
                connection.sendall(more)
                sent += 1
    assert sent < 1_000


class Loop:
    """An event loop that keeps what it is asked to do."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, function: Callable[[], None]) -> "Loop.Handle":
        self.due.append((seconds, function))
        return self.Handle(self, self.due[-1])

    def create_task(self, coroutine: Coroutine[Any, Any, None], **_: Any) -> Mock:
        coroutine.close()  # nobody answers before `answer`
        return Mock()

    class Handle:
        def __init__(self, loop: "Loop", entry: tuple[float, Callable[[], None]]) -> None:
            self._loop, self._entry = loop, entry

        def cancel(self) -> None:
            if self._entry in self._loop.due:
                self._loop.due.remove(self._entry)


class Line:
    """A connection whose time goes on when it is told to."""

    def __init__(self, server: Server) -> None:
        server.settings = ServeConfig(send_seconds=7)
        self.loop, self.transport = Loop(), Mock()
        self.transport.is_closing.side_effect = lambda: self.transport.close.called
        self.transport.get_extra_info.return_value = None
        front = Front(Mock(), server, Routes(server))
        config = Config(front, **http_options(server.settings))
        self.protocol = Protocol(config, ServerState(), {}, cast(AbstractEventLoop, self.loop))
        self.protocol.connection_made(self.transport)

    def receive(self, data: bytes) -> None:
        self.protocol.data_received(data)

    def answer(self) -> None:
        """The request that waits is answered, without a look at its body."""
        self.protocol.cycle.response_complete = True
        self.protocol.on_response_complete()

    @property
    def waits(self) -> list[float]:
        """How many seconds it waits, and for how many things; uvicorn's keep-alive is five."""
        return [seconds for seconds, _ in self.loop.due]

    def time_is_up(self) -> None:
        (_, function), *_ = self.loop.due
        self.loop.due.clear()
        function()


@pytest.mark.parametrize(
    "data", [b"", b"POST", b"GET /health HTTP/1.1\r\nhost: localhost\r\n", b"\r\n"]
)
def test_a_head_that_does_not_come_is_not_waited_for(server: Server, data: bytes) -> None:
    line = Line(server)
    line.receive(data)
    assert line.waits == [7]
    line.time_is_up()
    line.transport.close.assert_called_once()


@pytest.mark.parametrize("data", [b"POST", b"\r\n"])
@pytest.mark.parametrize("first", [post(), b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"])
def test_nor_is_one_after_an_answer(server: Server, first: bytes, data: bytes) -> None:
    line = Line(server)
    line.receive(first)
    if not first.startswith(b"POST"):
        assert line.waits == []
        line.answer()
    assert line.waits == [5]
    line.receive(data)
    assert line.waits == [7]
    line.receive(b"")
    assert line.waits == [7]
    line.time_is_up()
    line.transport.close.assert_called_once()


def test_the_rest_of_a_body_that_nobody_reads_is_not_waited_for(server: Server) -> None:
    line = Line(server)
    line.receive(b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\na")
    assert line.waits == []
    line.answer()
    line.receive(b"b")
    assert line.waits == [7]
    line.receive(b"cGET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert line.waits == []


def test_a_client_that_waits_for_an_answer_is_not_cut_off(server: Server) -> None:
    line = Line(server)
    line.receive(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET")
    assert line.waits == [7]
    line.time_is_up()
    line.transport.close.assert_not_called()
    assert line.waits == [7]
    line.answer()
    line.time_is_up()
    line.transport.close.assert_called_once()


def test_a_connection_that_is_lost_waits_for_nothing(server: Server) -> None:
    line = Line(server)
    line.protocol.connection_lost(None)
    assert line.waits == []


def test_long_heads_and_small_chunks_are_read(port: int) -> None:
    head = b"x-long: " + b"x" * 60_000
    assert b"200" in talk(port, post(ASKED, *HEAD, head, b"content-length: 26"))[0][0]
    chunks = b"".join(b"1\r\n%c\r\n" % letter for letter in ASKED.ljust(1_000))
    lines = (b"POST /recommend HTTP/1.1", *HEAD, head, b"transfer-encoding: chunked")
    begin = b"\r\n".join((*lines, b"", b""))
    assert b"200" in talk(port, begin[:50_000], begin[50_000:], chunks, b"0\r\n\r\n")[0][0]


def test_the_token_on_the_short_way(server: Server) -> None:
    server.settings = ServeConfig(token=SecretStr(TOKEN))
    front = Front(lambda *_: None, server, Routes(server))  # type: ignore[arg-type, return-value]
    headers = [(b"host", b"example.org"), (b"content-type", b"application/json")]
    status, reply_headers, _ = front.recommend(headers, ASKED)
    assert status == 401
    assert (b"www-authenticate", b"Bearer") in list(reply_headers)
    right = (b"authorization", f"Bearer {TOKEN}".encode())
    # With a token a page of another name can do nothing, so any Host will do.
    assert front.recommend([*headers, right], ASKED)[0] == 200


def test_hosts_of_this_machine() -> None:
    for host in (b"127.0.0.1", b"127.0.0.1:8000", b"localhost:80", b"LOCALHOST", b"[::1]:8000"):
        assert names_this_machine(host)
    for host in (b"", b"example.org", b"example.org:8000", b"127.0.0.1.example.org", b"10.0.0.1"):
        assert not names_this_machine(host)


def test_a_request_for_another_host_is_refused(port: int) -> None:
    for path in (b"/", b"/docs", b"/metrics", b"/health"):
        asked = b"GET " + path + b" HTTP/1.1\r\nhost: rebound.example\r\n\r\n"
        status, _, body = talk(port, asked)[0]
        assert b"421" in status
        assert "rebound.example" in body["error"]
        assert "DUALTOWER_TOKEN" in body["error"]


def test_ipv6_stands_in_brackets_in_an_address() -> None:
    assert [host_of_url(host) for host in ("::1", "127.0.0.1")] == ["[::1]", "127.0.0.1"]


def test_with_a_ranker_nobody_takes_the_short_way(server: Server) -> None:
    server.ranking = Ranking(lambda task: -task.scores, 1.0, print)
    assert not Front(lambda *_: None, server, Routes(server)).has_short_way  # type: ignore[arg-type, return-value]
    with listening(server) as address:
        port = int(address.rpartition(":")[2].strip("/"))
        assert talk(port, post())[0][2]["ranking"] == "ranked"
