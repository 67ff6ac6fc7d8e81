"""The routes: each reads a body, calls one method of the server, and replies."""

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from dualtower.errors import BundleError, DataError, DualtowerError
from dualtower.serving.bodies import (
    BatchBody,
    BundleBody,
    EventsBody,
    RecommendBody,
    check_count,
    check_query,
    read,
)
from dualtower.serving.event import check_id
from dualtower.serving.http import RefusedError, read_body, reply, to_json, whole_number
from dualtower.serving.server import Server, event_of

_RECOMMEND = msgspec.json.Decoder(RecommendBody)
_BATCH = msgspec.json.Decoder(BatchBody)
_EVENTS = msgspec.json.Decoder(EventsBody)
_BUNDLE = msgspec.json.Decoder(BundleBody)


class Routes:
    """The handlers of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def recommend(self, request: Request) -> Response:
        """POST /recommend."""
        body = self._asked(await read_body(request, self._server))
        return reply(await self._server.answer(body))

    def best(self, content: bytes) -> bytes:
        """The reply to a body of POST /recommend, where no ranker has to be waited for.

        Raises:
            DualtowerError: the body is not as it should be.
        """
        return to_json(self._server.recommend(self._asked(content)))

    def _asked(self, content: bytes) -> RecommendBody:
        body = read(content, _RECOMMEND)
        check_query(body, self._server.settings)
        return body

    async def recommend_batch(self, request: Request) -> Response:
        """POST /recommend/batch; other requests get their turn after each query."""
        body = read(await read_body(request, self._server), _BATCH)
        settings = self._server.settings
        check_count(len(body.queries), settings, "queries")
        for place, query in enumerate(body.queries):
            check_query(query, settings, f"queries[{place}].")
        answers = []
        for place, query in enumerate(body.queries):
            try:
                answers.append(await self._server.answer(query))
            except DualtowerError as error:
                raise DataError(f"queries[{place}].{error}") from None
            await asyncio.sleep(0)
        return reply({"answers": answers})

    async def events(self, request: Request) -> Response:
        """POST /events; the reply comes when they are on disk and in effect."""
        body = read(await read_body(request, self._server), _EVENTS)
        check_count(len(body.events), self._server.settings, "events")
        events = []
        for place, event in enumerate(body.events):
            try:
                events.append(event_of(event))
            except DataError as error:
                raise DataError(f"events[{place}].{error}") from None
        return reply({"new": await self._server.record(events)})

    async def similar(self, request: Request) -> Response:
        """GET /similar/{item}: items near it, new ones too."""
        n = whole_number(request, "n", 20, self._server.settings.max_n)
        item, query_id = request.path_params["item"], request.query_params.get("query_id")
        if query_id is not None:
            check_id("query_id", query_id)
        arm, served = self._server.deck.pick(query_id)
        if not served.engine.has_vector(item, served.live):
            raise RefusedError(
                404, f"item: {item[:60]!r} is in no corpus and no event, so it has no vector"
            )
        items, scores = served.engine.similar(item, n, live=served.live)
        return reply({"items": items, "scores": scores, **self._server.named(arm)})

    async def health(self, request: Request) -> Response:
        """GET /health: the process lives."""
        return reply({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """GET /ready: it answers; 503 while it stops."""
        if self._server.stopping:
            return reply({"status": "stopping"}, 503)
        return reply({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """GET /metrics."""
        text = self._server.metrics.text(self._server.deck)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def bundle(self, request: Request) -> Response:
        """POST /bundle: serve another bundle from now on."""
        if self._server.settings.token is None:
            raise RefusedError(401, "POST /bundle needs a server that was started with a token")
        body = read(await read_body(request, self._server), _BUNDLE)
        folder = self._server.folder_of(body.path, body.arm)
        try:
            served = await self._server.swap(folder, body.arm)
        except BundleError as error:
            raise DataError(f"refused, the old bundle stays: {error}") from None
        facts = served.engine.bundle.manifest
        return reply({"model": facts.model, "corpus": facts.counts.corpus})
