"""HTTP on one connection, with a short way for the busiest route.

uvicorn answers a request through a task, three messages and two writes to the socket, each of which
wakes the client. A plain POST /recommend that has arrived as a whole needs none of that: it is
answered where it is received, in one write. Everything else about HTTP is uvicorn's.
"""

import asyncio
import re
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dualtower.serving.front import Front

_START = b"POST /recommend HTTP/1.1\r\n"
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)\r\n")
_LONGEST_HEAD, _MOST_DIGITS = 8_192, 9
_LARGEST_HEAD = 65_536
"""Bytes of a request before its body; that many more may have come when they are counted."""
_MOST_FRAMING = 6
"""Times a body's bytes that a chunked one takes: each byte may be a chunk of its own."""
_FRAMING = {b"transfer-encoding", b"connection", b"proxy-connection", b"expect", b"upgrade"}
"""Headers that may change where a request ends or how it is answered."""


def plain_request(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes] | None:
    """Headers, names in lower case, and body of the one POST /recommend that `data` is.

    None where it is anything else or needs thought: uvicorn's parser then decides.
    """
    if not data.startswith(_START):
        return None
    end = data.find(b"\r\n\r\n", 0, _LONGEST_HEAD) + 2
    headers, length, place = [], -1, len(_START)
    while place < end:
        line = _HEADER.match(data, place, end)
        if line is None:
            return None
        name, value = line[1].lower(), line[2].strip(b" \t")
        if name in _FRAMING and not (name == b"connection" and value == b"keep-alive"):
            return None
        if name == b"content-length":
            if length >= 0 or not value.isdigit() or len(value) > _MOST_DIGITS:
                return None
            length = int(value)
        headers.append((name, value))
        place = line.end()
    body = data[end + 2 :]
    return (headers, body) if len(body) == length else None


class Protocol(HttpToolsProtocol):
    """uvicorn's, but the reply to a plain request is asked of the application (`Front`)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._front = cast(Front, self.app)
        self._within_message = self._within_head = False
        self._size = 0
        self._head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection without a request is worth no more waiting than one with half of it."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reply at once where that is possible."""
        idle = not (self._answering or self._within_message or self.flow.write_paused)
        request = plain_request(data) if idle and self._front.has_short_way else None
        if request is None:
            super().data_received(data)
            self._limit(len(data))
            if not self._answering and not self.transport.is_closing():
                # uvicorn no longer waits for an end of these bytes, which may begin no request: a
                # line's end alone, or the rest of a body that nobody read.
                self._wait_for_head()
            return
        self._stop_waiting()
        status, headers, body = self._front.recommend(*request)
        head = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            head += (name, b": ", value, b"\r\n")
        self.transport.write(b"".join((*head, b"\r\n", body)))
        self.on_response_complete()

    def on_message_begin(self) -> None:
        """From now on the parser holds a part of a request."""
        self._within_message = self._within_head = True
        self._size = 0
        self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """What follows is the body."""
        self._within_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The parser holds nothing any more."""
        self._within_message = False
        super().on_message_complete()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        """End the connection unless address and headers come in time; uvicorn waits for ever."""
        if self._head_due is None:
            self._head_due = self.loop.call_later(self._front.send_seconds, self._end_waiting)

    def _end_waiting(self) -> None:
        self._head_due = None
        if self._answering:  # the client waits as well, and reading may have been paused for it
            self._wait_for_head()
        else:
            self.timeout_keep_alive_handler()

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _limit(self, size: int) -> None:
        """End a connection whose request has no end, after `size` more bytes of it.

        uvicorn keeps an address and headers of any length, and those behind a chunked body.
        """
        if not self._within_message or self.transport.is_closing():
            return
        self._size += size
        if self._within_head and self._size > _LARGEST_HEAD:
            self.send_400_response(f"Address and headers: more than {_LARGEST_HEAD} bytes.")
        elif self._size > _LARGEST_HEAD + _MOST_FRAMING * self._front.max_body_bytes:
            self.transport.close()
