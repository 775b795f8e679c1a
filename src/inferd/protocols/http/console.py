"""The browser's page at `/`: static files of `console/`, which call the routes that anybody calls.

The page names its files with a digest of their content, so that they are kept for good, and is
asked for again each time. Nothing inline is run, and nothing is fetched from elsewhere.
"""

import hashlib
import re
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferd.errors import ModelNotFound
from inferd.protocols.http.oip.routes import error_response

_ASSETS = {
    "app.js": "text/javascript; charset=utf-8",
    "forms.js": "text/javascript; charset=utf-8",
    "answers.js": "text/javascript; charset=utf-8",
    "chat.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_NAMED = re.compile(rb"(?:\./|console/)([a-z]+\.(?:js|css|svg))\?v=")
_SAFE = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def console_routes() -> list[Route]:
    """The page and its files."""
    return [
        Route("/", _page, methods=["GET"]),
        Route("/console/{file}", _asset, methods=["GET"]),
    ]


async def _page(request: Request) -> Response:
    headers = {**_SAFE, "cache-control": "no-cache"}
    return Response(_content("index.html"), 200, headers, media_type="text/html; charset=utf-8")


async def _asset(request: Request) -> Response:
    name = request.path_params["file"]
    kind = _ASSETS.get(name)
    if kind is None:
        return error_response(ModelNotFound(f"no such path: /console/{name}; / is the page"))
    kept = request.query_params.get("v") == _digest(name)
    cached = "public, max-age=31536000, immutable" if kept else "no-cache"
    return Response(_content(name), 200, {**_SAFE, "cache-control": cached}, media_type=kind)


@cache
def _content(name: str) -> bytes:
    """A file, with the digests of those that it names."""
    data = (files("inferd") / "console" / name).read_bytes()
    return _NAMED.sub(lambda found: found[0] + _digest(found[1].decode()).encode(), data)


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(_content(name)).hexdigest()[:16]
