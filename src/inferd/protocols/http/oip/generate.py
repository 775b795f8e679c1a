"""Generate: requests and answers in flat JSON, whole or as server-sent events, for every model that
takes tensors; for language models in the words of Triton's backends for them.

A request is answered in a task, which ends when the client leaves, and with it the model's work. An
error before the first event is an answer with a status; one behind it is an event, `data:
{"error": ...}`, and so is one that stands for a single response: of the first one the status tells,
too.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import unquote

import numpy as np

from inferd.errors import InferdError, InvalidRequest
from inferd.protocols.faults import internal_error, log_fault
from inferd.protocols.http.answers import answer_error
from inferd.protocols.http.compression import decompress
from inferd.protocols.http.connection import Handler, HttpConnection
from inferd.protocols.http.deadline import DEADLINE_HEADER, deadline_ns
from inferd.protocols.http.errors import STATUS_OF, error_body
from inferd.protocols.http.event_stream import EventStream
from inferd.protocols.http.oip.generate_codec import (
    ONE_RESPONSE,
    decode_generate,
    encode_generate,
    generate_document,
)
from inferd.protocols.http.openai.offload import offloaded
from inferd.protocols.http.openai.text_io import text_request, text_responses
from inferd.protocols.http.request import HttpRequest, RequestHead
from inferd.protocols.request_id import next_request_id, request_id
from inferd.serving.data_plane import DataPlane
from inferd.types.inference import InferenceRequest, InferenceResponse

_log = logging.getLogger("inferd.http")

_PATH = re.compile(
    rb"/v2/models/([^/?]+)(?:/versions/([^/?]+))?/(generate|generate_stream)(?:\?.*)?"
)


class GenerateRoute:
    """Answers `POST /v2/models/{name}[/versions/{version}]/generate` and `.../generate_stream`."""

    def __init__(self, plane: DataPlane, max_body_bytes: int) -> None:
        self.plane = plane
        self.max_body_bytes = max_body_bytes

    def handler(self, head: RequestHead) -> Handler | None:
        """How to answer a request with such a head; None for any other request."""
        found = _PATH.fullmatch(head.target)
        if found is None:
            return None
        if head.method != b"POST":
            return _not_post
        name = unquote(found[1].decode("latin-1"))
        version = unquote((found[2] or b"").decode("latin-1"))
        streams = found[3] == b"generate_stream"
        return lambda connection, request: GenerateExchange(
            self, connection, request, name, version, streams
        )


def _not_post(connection: HttpConnection, request: HttpRequest) -> None:
    connection.respond(405, error_body("generate needs POST"), headers=[(b"allow", b"POST")])


class GenerateExchange:
    """One request being answered; an Exchange."""

    __slots__ = (
        "_connection", "_events", "_identity", "_name", "_request", "_route", "_streams", "_task",
        "_version",
    )  # fmt: skip

    def __init__(
        self, route: GenerateRoute, connection: HttpConnection, request: HttpRequest, name: str,
        version: str, streams: bool,
    ) -> None:  # fmt: skip
        self._route = route
        self._connection = connection
        self._request = request
        self._name = name
        self._version = version
        self._streams = streams
        self._identity = request_id(request.head.fields.get(b"x-request-id"))
        self._events = EventStream(connection, lambda: [(b"x-request-id", self._identity)])
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """The client has left."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            async with aclosing(await self._open()) as parts:
                if self._streams:
                    await self._stream(parts)
                else:
                    await self._answer(parts)
        except InferdError as error:
            self._fail(error)
        except Exception as error:
            self._fail(internal_error(_log, error, self._identity))
        finally:
            self._events.close()

    # -- in --------------------------------------------------------------------------------------

    async def _open(self) -> AsyncGenerator[InferenceResponse | InferdError, None]:
        """Decode, and open the model's stream."""
        fields = self._request.head.fields
        plane = self._route.plane
        size = len(self._request.body)
        if b"content-encoding" in fields:
            size = self._route.max_body_bytes
        llm = plane.language_model(self._name, self._version)
        if llm is not None:
            own = next_request_id().decode()
            asked = await offloaded(
                size,
                lambda: text_request(generate_document(self._body()), llm, self._streams, own),
            )
            return text_responses(llm, asked, self._streams)
        request = await offloaded(size, self._decode)
        deadline = fields.get(DEADLINE_HEADER)
        if deadline is not None:
            request.deadline_ns = time.perf_counter_ns() + deadline_ns(deadline)
        return plane.stream(request)

    def _body(self) -> bytes:
        body = self._request.body
        encoding = self._request.head.fields.get(b"content-encoding")
        if encoding is not None:
            body = decompress(body, encoding.decode("latin-1"), self._route.max_body_bytes)
        return body

    def _decode(self) -> InferenceRequest:
        served = self._route.plane.served(self._name, self._version)
        inputs = served.inputs
        with np.errstate(over="ignore"):  # as the loop's own thread has it
            return decode_generate(self._name, self._version, self._body(), inputs)

    # -- out -------------------------------------------------------------------------------------

    async def _answer(self, parts: AsyncGenerator[InferenceResponse | InferdError, None]) -> None:
        """Exactly one response; a second one ends what the model does."""
        only: InferenceResponse | None = None
        async for part in parts:
            if isinstance(part, InferdError):
                raise part
            if only is not None:
                raise InvalidRequest(ONE_RESPONSE)
            only = part
        if only is None:
            raise InvalidRequest(ONE_RESPONSE)
        headers = [(b"x-request-id", self._identity)]
        self._connection.respond(200, encode_generate(only), headers=headers)

    async def _stream(self, parts: AsyncGenerator[InferenceResponse | InferdError, None]) -> None:
        self._events.arm()
        async for part in parts:
            if isinstance(part, InferdError):
                self._events.send(self._error(part), STATUS_OF[part.code])
            else:
                self._events.send(b"data: %b\n\n" % encode_generate(part))
            await self._connection.drained()
        self._events.end()

    def _fail(self, error: InferdError) -> None:
        if self._events.begun:
            self._events.end(self._error(error))
        elif not self._connection.closed:
            answer_error(self._connection, self._request, error, self._identity)

    def _error(self, error: InferdError) -> bytes:
        log_fault(_log, error, self._identity)
        return b"data: %b\n\n" % error_body(str(error))
