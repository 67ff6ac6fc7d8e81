"""The FastAPI application: routes, their documentation, and errors in plain words."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

import dualtower
from dualtower.serving import documents
from dualtower.serving.event import LONGEST_ID
from dualtower.serving.front import Front
from dualtower.serving.http import MISTAKE, Handler, failure, guarded
from dualtower.serving.page import documents as pages
from dualtower.serving.page.routes import PageRoutes
from dualtower.serving.routes import Routes
from dualtower.serving.server import Server

_ERRORS = {
    401: "No token, or a wrong one.",
    404: "The item has no vector.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    421: "The Host is not this machine's, and the server has no token.",
    422: "A field is not as it should be.",
    503: "The store refused the events, or the server stops.",
}
_WITH_BODY = (408, 413, 415)


def make_app(server: Server) -> ASGIApp:
    """The application that serves `server`: the routes, and in front of them the shorter way."""
    routes = Routes(server)
    return Front(_documented(server, routes), server, routes)


def _documented(server: Server, routes: Routes) -> FastAPI:
    """All routes, as FastAPI documents and answers them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.start()
        yield
        await server.stop()

    app = FastAPI(
        title="dualtower",
        version=dualtower.__version__,
        summary="Candidates for recommendation, live events, and similar items.",
        lifespan=lifespan,
    )

    def add(
        method: str,
        path: str,
        handler: Handler,
        reply: type[BaseModel] | None = None,
        body: type[BaseModel] | None = None,
        extra: dict[str, Any] | None = None,
        open_to_all: bool = False,
        also: tuple[int, ...] = (),
        response_class: type[Response] = JSONResponse,
    ) -> None:
        endpoint = guarded(server, path, handler, open_to_all=open_to_all)
        documented = {**(extra or {}), **({} if body is None else _body(body))}
        errors = () if open_to_all else (401, 422, *(() if body is None else _WITH_BODY))
        if server.settings.token is None:
            errors = (*errors, 421)
        elif not open_to_all:
            documented["security"] = [{"token": []}]
        app.add_api_route(
            path,
            endpoint,
            methods=[method],
            response_model=None,
            responses={
                **({} if reply is None else {200: {"model": reply}}),
                **{status: _error(status) for status in (*errors, *also)},
            },
            response_class=response_class,
            openapi_extra=documented or None,
            summary=(handler.__doc__ or "").split(":")[-1].strip(),
            operation_id=handler.__name__,
        )

    add("POST", "/recommend", routes.recommend, documents.Answer, documents.RecommendBody)
    add("POST", "/recommend/batch", routes.recommend_batch, documents.Answers, documents.BatchBody)
    add("POST", "/events", routes.events, documents.Acknowledged, documents.EventsBody, also=(503,))
    add(
        "GET",
        "/similar/{item:path}",
        routes.similar,
        documents.Answer,
        extra=_SIMILAR,
        also=(404,),
    )
    add("GET", "/health", routes.health, documents.Status, open_to_all=True)
    add("GET", "/ready", routes.ready, documents.Status, open_to_all=True, also=(503,))
    add("GET", "/metrics", routes.metrics, response_class=PlainTextResponse)
    add("POST", "/bundle", routes.bundle, documents.Loaded, documents.BundleBody)
    page = PageRoutes(server)
    add("GET", "/", page.page, open_to_all=True, response_class=HTMLResponse)
    add("GET", "/about", page.about, pages.About)
    add(
        "GET",
        "/queries",
        page.queries,
        pages.Queries,
        extra={"parameters": [_number("limit", "queries")]},
    )
    add(
        "GET",
        "/history",
        page.history,
        pages.History,
        extra={"parameters": [_QUERY_ID, _number("limit", "events")]},
    )
    add(
        "GET",
        "/candidates",
        page.candidates,
        pages.Candidates,
        extra={"parameters": [_QUERY_ID, _number("n", "items")]},
    )
    add("GET", "/experiment/chart", page.experiment_chart, pages.Chart)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return failure(404, f"{request.url.path[:100]}: no such address; /docs lists them")
        return failure(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def mistake(request: Request, error: Exception) -> Response:
        return failure(500, MISTAKE)

    if server.settings.token is not None:
        app.openapi = _with_token(app.openapi)  # type: ignore[method-assign]
    return app


def _with_token(describe: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The description with the token, which /docs then asks for and sends."""

    def described() -> dict[str, Any]:
        api = describe()
        schemes = {"token": {"type": "http", "scheme": "bearer"}}
        return {**api, "components": {**api["components"], "securitySchemes": schemes}}

    return described


def _error(status: int) -> dict[str, Any]:
    # Written out, because a model would take the type of the route's own answers.
    content = {"application/json": {"schema": documents.Failure.model_json_schema()}}
    return {"description": _ERRORS[status], "content": content}


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    nested = schema.pop("$defs", {})
    content = {"schema": _inlined(schema, nested)}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _inlined(schema: Any, nested: dict[str, Any]) -> Any:
    """The schema with what it refers to in its place."""
    if isinstance(schema, dict):
        name = schema.get("$ref", "").rpartition("/")[2]
        if name in nested:
            return _inlined(nested[name], nested)
        return {key: _inlined(value, nested) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inlined(value, nested) for value in schema]
    return schema


def _number(name: str, what: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "default": 20},
        "description": f"How many {what}.",
    }


_QUERY_ID = {
    "name": "query_id",
    "in": "query",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_ID},
    "example": "u1",
}
_SIMILAR = {
    "parameters": [
        {
            "name": "item",
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "example": "i9",
        },
        _number("n", "items"),
        {
            **_QUERY_ID,
            "required": False,
            "description": "Whose arm of an experiment answers; the control without it.",
        },
    ]
}
