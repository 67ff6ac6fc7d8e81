"""What every request passes first: a check of its Host, and the busiest route's short way."""

import logging
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from dualtower.errors import DualtowerError
from dualtower.serving.http import (
    JSON,
    MISTAKE,
    Headers,
    RefusedError,
    check_body,
    check_token,
    failure,
    header,
    refusal,
)
from dualtower.serving.routes import Routes
from dualtower.serving.server import Server
from dualtower.serving.settings import is_loopback

_LOG = logging.getLogger("uvicorn.error")
_RECOMMEND = "/recommend"
_CONTENT_TYPE = (b"content-type", JSON.encode())
_FOREIGN = (
    "host: {!r}; without a token this server answers only to localhost and loopback addresses: ask "
    "for one of these, or set DUALTOWER_TOKEN"
)


class Front:
    """The application for the server: checks the Host, and passes a request on to `app`.

    `Protocol` asks it for the answer to a plain POST /recommend, which then needs no task, no
    message and no routing: these cost more than the query tower.
    """

    def __init__(self, app: ASGIApp, server: Server, routes: Routes) -> None:
        self._app = app
        self._server = server
        self._routes = routes
        self._counts = server.metrics.requests
        self._any_host = server.settings.token is not None
        self.max_body_bytes = server.settings.max_body_bytes
        """Of a request."""
        self.send_seconds = server.settings.send_seconds
        """How long its address and headers may take, from the connection or their first byte."""
        self.has_short_way = server.ranking is None
        """Whether `recommend` may be asked: nobody waits for a ranker there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] == "http":
            try:
                self._check_host(scope["headers"])
            except RefusedError as refused:
                await failure(refused.status, str(refused))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def recommend(self, headers: Headers, content: bytes) -> tuple[int, Headers, bytes]:
        """Status, headers and body of the reply to POST /recommend; the same as `app`'s.

        Not for a server with a ranker (`has_short_way`).

        Args:
            headers: of the request, names in lower case.
            content: its body.
        """
        try:
            self._check_host(headers)
            check_token(headers, self._server)
            check_body(headers, self._server)
            body = self._routes.best(content)
        except (RefusedError, DualtowerError) as error:
            response = failure(*refusal(error))
        except Exception:
            _LOG.exception("POST /recommend")
            response = failure(500, MISTAKE)
        else:
            self._counts[_RECOMMEND, 200] += 1
            return 200, ((b"content-length", b"%d" % len(body)), _CONTENT_TYPE), body
        self._counts[_RECOMMEND, response.status_code] += 1
        return response.status_code, response.raw_headers, bytes(response.body)

    def _check_host(self, headers: Headers) -> None:
        """Refuse a page whose own name was made to point at this machine.

        With a token such a page can do nothing; without one only the Host gives it away.

        Raises:
            RefusedError: 421.
        """
        if not self._any_host:
            host = header(headers, b"host")
            if not names_this_machine(host):
                raise RefusedError(421, _FOREIGN.format(host[:100].decode("latin-1")))


@lru_cache(maxsize=64)
def names_this_machine(host: bytes) -> bool:
    """Whether a Host header, with or without a port, names localhost or a loopback address."""
    text = host.decode("latin-1").lower()
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    return is_loopback(name)
