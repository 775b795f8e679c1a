"""What the ASGI endpoints of the OpenAI API's kind share: bodies in, JSON out, errors in its shape,
and an end to the work when the client leaves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from inferd.errors import InferdError, RequestCancelled
from inferd.protocols.http.openai.body import decode_body
from inferd.protocols.http.openai.errors import (
    openai_error_body,
    openai_error_headers,
    status_of,
)
from inferd.protocols.http.openai.offload import offloaded

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)
Endpoint = Callable[[Request], Awaitable[Response]]


def json_response(value: Any) -> Response:
    """200 with a JSON value, in which numpy arrays may stand."""
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, 200, media_type="application/json")


async def read_fields(request: Request, kind: type[S], max_bytes: int) -> tuple[S, int]:
    """The body, decoded, and its size."""
    headers: dict[bytes, bytes] = dict(request.scope["headers"])
    body = await request.body()
    decoded = await offloaded(len(body), lambda: decode_body(body, headers, kind, max_bytes))
    return decoded, len(body)


def translating(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with errors as answers."""

    async def translated(request: Request) -> Response:
        try:
            return await endpoint(request)
        except InferdError as error:
            headers = {n.decode(): v.decode() for n, v in openai_error_headers(error)}
            return Response(
                openai_error_body(error), status_of(error), headers, media_type="application/json"
            )

    translated.__doc__ = endpoint.__doc__
    return translated


async def attended(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; it is cancelled when the client leaves. The body must have been read.

    Raises what `work` does, and RequestCancelled.
    """
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise RequestCancelled("the client has left")
        return doing.result()
    finally:
        doing.cancel()
        gone.cancel()
