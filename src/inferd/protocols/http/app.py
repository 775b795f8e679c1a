"""The ASGI application of the cold routes, and the handler that sends each request its way."""

from collections.abc import Callable
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferd.errors import InvalidRequest
from inferd.protocols.http.asgi import AsgiApp, AsgiExchange
from inferd.protocols.http.call.routes import CallRoutes, called_by_name
from inferd.protocols.http.connection import Exchange, Handler, HttpConnection
from inferd.protocols.http.console import console_routes
from inferd.protocols.http.docs import docs_page
from inferd.protocols.http.errors import error_body
from inferd.protocols.http.mounts import MountRoute
from inferd.protocols.http.oip.routes import OipRoutes, json_response
from inferd.protocols.http.openai.errors import openai_error_body
from inferd.protocols.http.openai.routes import PREFIXES, OpenAIRoutes
from inferd.protocols.http.openapi import openapi_document
from inferd.protocols.http.origin import CROSS_SITE, cross_site
from inferd.protocols.http.request import HttpRequest, RequestHead
from inferd.protocols.http.texts.routes import TextRoutes
from inferd.protocols.request_id import request_id
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane

RenderMetrics = Callable[[], bytes]


def create_app(
    data: DataPlane, control: ControlPlane, metrics: RenderMetrics | None, max_body_bytes: int
) -> Starlette:
    """Every route but inference, calls and generation; without `metrics` none of those."""

    async def openapi(request: Request) -> Response:
        return json_response(openapi_document(called_by_name(data, control)))

    async def docs(request: Request) -> Response:
        page = docs_page(openapi_document(called_by_name(data, control)))
        return Response(page, media_type="text/html; charset=utf-8")

    app = Starlette(
        routes=[
            *OipRoutes(data, control).routes(),
            *OpenAIRoutes(data, max_body_bytes).routes(),
            *CallRoutes(data, control).routes(),
            *console_routes(),
            *TextRoutes(data, max_body_bytes).routes(),
            *_metrics_routes(metrics),
            Route("/openapi.json", openapi),
            Route("/docs", docs),
        ],
        exception_handlers={HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    return app


def metrics_app(metrics: RenderMetrics) -> Starlette:
    """The metrics alone, for a port of their own."""
    routes = _metrics_routes(metrics)
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


def _metrics_routes(metrics: RenderMetrics | None) -> list[Route]:
    if metrics is None:
        return []

    async def metrics_page(request: Request) -> Response:
        return Response(metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/metrics", metrics_page)]


DIRECT_PATHS = (
    "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer",
    "/v2/models/{model}/generate", "/v2/models/{model}/versions/{version}/generate",
    "/v2/models/{model}/generate_stream", "/v2/models/{model}/versions/{version}/generate_stream",
    "/v1/chat/completions", "/v1/completions",
    "/ws/models/{model}", "/ws/models/{model}/versions/{version}",
)  # fmt: skip
"""Where the direct routes answer."""


def own_paths(app: Starlette) -> tuple[str, ...]:
    """Every path on which the server itself answers, `{name}` for any segment."""
    return tuple(route.path for route in app.routes if isinstance(route, Route)) + DIRECT_PATHS


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    message = {
        404: f"no such path: {path}; /docs lists what there is",
        405: f"{request.method} is not allowed on {path}",
    }.get(error.status_code, error.detail)
    body = _error_body(path, message)
    return Response(body, error.status_code, error.headers, media_type="application/json")


def _error_body(path: str, message: str) -> bytes:
    """In the words of the protocol whose path it is."""
    if path.startswith(PREFIXES):
        return openai_error_body(InvalidRequest(message))
    return error_body(message)


_READS = (b"GET", b"HEAD", b"OPTIONS")


class DirectRoute(Protocol):
    """A route that answers without a framework."""

    def handler(self, head: RequestHead) -> Handler | None:
        """How to answer a request with such a head; None for one that is not for this route."""


class RequestRouter:
    """Inference, calls and generation take a direct path, all else goes to the routes of a model's
    own whose path it is, or to the ASGI application."""

    def __init__(
        self, app: AsgiApp, *direct: DirectRoute, mounts: MountRoute | None = None
    ) -> None:
        self._app = app
        self._direct = direct
        self._mounts = mounts

    def __call__(self, head: RequestHead) -> Handler:
        """A Route. What only reads may be asked by the page of any site: browsers keep the answer
        from it."""
        if head.method not in _READS and cross_site(head.fields):
            return self._start_foreign
        for route in self._direct:
            handler = route.handler(head)
            if handler is not None:
                return handler
        return self._start_asgi

    def _start_foreign(self, connection: HttpConnection, request: HttpRequest) -> Exchange | None:
        mounted = self._start_mounted(connection, request)  # which may know whom it lets in
        if mounted is None:
            connection.respond(403, _error_body(request.head.target.decode("latin-1"), CROSS_SITE))
        return mounted

    def _start_mounted(self, connection: HttpConnection, request: HttpRequest) -> Exchange | None:
        return self._mounts.start(connection, request) if self._mounts is not None else None

    def _start_asgi(self, connection: HttpConnection, request: HttpRequest) -> Exchange:
        mounted = self._start_mounted(connection, request)
        if mounted is not None:
            return mounted
        sent = request.head.fields.get(b"x-request-id")
        return AsgiExchange(self._app, connection, request, request_id(sent))
