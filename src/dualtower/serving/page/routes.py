"""The page's routes: the page itself, and the small reads that it needs."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from dualtower.errors import ConfigError, DataError
from dualtower.serving.event import check_id
from dualtower.serving.http import reply, whole_number
from dualtower.serving.page import views
from dualtower.serving.page.document import page_response
from dualtower.serving.server import Server

_MOST_QUERIES = 1_000


class PageRoutes:
    """The handlers of one server's page."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._drawing = asyncio.Lock()

    async def page(self, request: Request) -> Response:
        """GET /: a page to look at candidates and to send events; it holds no data itself."""
        return page_response()

    async def about(self, request: Request) -> Response:
        """GET /about: what is served."""
        return reply(views.about(self._server))

    async def queries(self, request: Request) -> Response:
        """GET /queries: some queries with a history."""
        limit = whole_number(request, "limit", 20, _MOST_QUERIES)
        return reply({"queries": views.example_queries(self._server.deck, limit)})

    async def history(self, request: Request) -> Response:
        """GET /history: what a query did."""
        limit = whole_number(request, "limit", 20, self._server.settings.max_n)
        return reply(views.history(self._server.deck, _query_id(request), limit))

    async def candidates(self, request: Request) -> Response:
        """GET /candidates: every arm's for a query, without an exposure."""
        n = whole_number(request, "n", 20, self._server.settings.max_n)
        return reply(views.candidates(self._server.deck, _query_id(request), n))

    async def experiment_chart(self, request: Request) -> Response:
        """GET /experiment/chart: lift day by day, as SVG and in words."""
        store, experiment = self._server.store, self._server.deck.experiment
        if experiment is None:
            raise ConfigError("chart: no experiment runs; start the server with --experiment FILE")
        if store is None:
            raise ConfigError("chart: this server keeps no events; start it with --events FILE")
        async with self._drawing:
            return reply(await asyncio.to_thread(views.chart, store, experiment))


def _query_id(request: Request) -> str:
    text = request.query_params.get("query_id")
    if text is None:
        raise DataError("query_id: missing; name the query, as in ?query_id=u1")
    check_id("query_id", text)
    return text
