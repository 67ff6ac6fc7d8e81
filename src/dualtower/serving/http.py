"""Bodies, tokens and errors, the same for every route."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import numpy as np
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dualtower.errors import DataError, DualtowerError, StoreError
from dualtower.serving.server import Server

Headers = Iterable[tuple[bytes, bytes]]
Handler = Callable[[Request], Awaitable[Response]]
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
JSON = "application/json"
_JSON_BYTES = JSON.encode()
MISTAKE = "a mistake in the server; its log says more"
"""What is said where a request ends in an exception that nobody foresaw."""


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def to_json(value: Any) -> bytes:
    """JSON in which NumPy arrays are lists, and numbers are not rounded."""
    return orjson.dumps(value, default=_as_list, option=_OPTIONS)


def reply(value: Any, status: int = 200) -> Response:
    """A JSON reply."""
    return Response(to_json(value), status, media_type=JSON)


def refusal(error: Exception) -> tuple[int, str]:
    """The status and the words with which an error is answered."""
    if isinstance(error, RefusedError):
        return error.status, str(error)
    if isinstance(error, StoreError):
        return 503, f"{error}; nothing was acknowledged, send it again"
    return 422, str(error)


def failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error in plain words."""
    if status == 401:
        headers = {"www-authenticate": "Bearer"}
    body = orjson.dumps({"error": message})
    return Response(body, status, headers, media_type=JSON)


def _as_list(value: Any) -> list[Any]:
    """Arrays that orjson does not write itself: those of Python's strings."""
    if isinstance(value, np.ndarray):
        values: list[Any] = value.tolist()
        return values
    raise TypeError


def header(headers: Headers, name: bytes) -> bytes:
    """A request's header, the first of that name; empty where there is none.

    Args:
        headers: of the request, names in lower case.
        name: in lower case.
    """
    for key, value in headers:
        if key == name:
            return value
    return b""


def check_token(headers: Headers, server: Server) -> None:
    """Refuse a request without the server's token, where it has one.

    Raises:
        RefusedError: 401.
    """
    token = server.settings.token
    if token is None:
        return
    given = header(headers, b"authorization")
    expected = f"Bearer {token.get_secret_value()}".encode()
    if not hmac.compare_digest(given, expected):
        raise RefusedError(401, "this server needs its token: send Authorization: Bearer TOKEN")


def check_body(headers: Headers, server: Server) -> None:
    """Refuse a body by what the request's headers say of it.

    Raises:
        RefusedError: 413 where it is too large, 415 where it is not said to be JSON.
    """
    kind = header(headers, b"content-type")
    # A page in a browser cannot send this type to another site without asking it first.
    if kind != _JSON_BYTES and kind.partition(b";")[0].strip().lower() != _JSON_BYTES:
        raise RefusedError(415, f"content-type: {kind.decode('latin-1')!r}; it should be {JSON}")
    said, limit = header(headers, b"content-length")[:20], server.settings.max_body_bytes
    if said.isdigit() and int(said) > limit:
        raise RefusedError(413, f"body: {int(said)} bytes; at most {limit} are accepted")


async def read_body(request: Request, server: Server) -> bytes:
    """The body of a request.

    Raises:
        RefusedError: as `check_body`; 408 where it takes too long, 400 where the client goes away.
    """
    check_body(request.scope["headers"], server)
    settings = server.settings
    limit, parts, size = settings.max_body_bytes, [], 0
    try:
        async with asyncio.timeout(settings.send_seconds):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise RefusedError(413, f"body: more than the {limit} bytes that are accepted")
                parts.append(part)
    except TimeoutError:
        raise RefusedError(408, f"body: not sent within {settings.send_seconds:g} s") from None
    except ClientDisconnect:
        raise RefusedError(400, "body: the connection ended before it did") from None
    return b"".join(parts)


def whole_number(request: Request, name: str, default: int, most: int) -> int:
    """A count among an address's parameters.

    Args:
        request: whose address.
        name: of the parameter.
        default: where it is missing; not more than `most` then either.
        most: the largest that is accepted; 1 is the smallest.

    Raises:
        DataError: no whole number in that range.
    """
    text = request.query_params.get(name, str(min(default, most)))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise DataError(f"{name}: {text[:60]!r} given; it should be 1 to {most}")
    return int(text)


def guarded(server: Server, route: str, handler: Handler, *, open_to_all: bool = False) -> Handler:
    """`handler` behind the token, with its errors in plain words and its replies counted.

    Args:
        server: counts and holds the token.
        route: what the counters call it.
        handler: answers a request; `DualtowerError` becomes 422.
        open_to_all: whether no token is needed.
    """
    counts = server.metrics.requests

    async def answer(request: Request) -> Response:
        try:
            if not open_to_all:
                check_token(request.scope["headers"], server)
            response = await handler(request)
        except (RefusedError, DualtowerError) as error:
            response = failure(*refusal(error))
        except Exception:
            counts[route, 500] += 1
            raise
        counts[route, response.status_code] += 1
        return response

    return answer
