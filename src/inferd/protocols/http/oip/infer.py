"""The direct path of inference: no task, no framework, one callback from request to answer.

A request takes the long way, through a thread, only when its JSON is large, its body compressed, or
some of it in shared memory, so that it does not hold up the others.
"""

import asyncio
import logging
import re
import time
from urllib.parse import unquote

import numpy as np

from inferd.batching.queue import QueuedRequest
from inferd.errors import InferdError, InvalidRequest, OnlyStreams, Unsupported
from inferd.protocols.express.lane import ExpressLanes
from inferd.protocols.faults import internal_error
from inferd.protocols.http.answers import answer_error
from inferd.protocols.http.compression import (
    OFFLOAD_BYTES,
    answer_encoding,
    compress_for,
    decompress,
)
from inferd.protocols.http.connection import Handler, HttpConnection
from inferd.protocols.http.deadline import DEADLINE_HEADER, deadline_ns
from inferd.protocols.http.errors import error_body
from inferd.protocols.http.oip.raw_request import decode_raw
from inferd.protocols.http.oip.request_codec import OutputForm, decode_request
from inferd.protocols.http.oip.response_codec import encode_response
from inferd.protocols.http.oip.riders import oip_riders
from inferd.protocols.http.request import Headers, HttpRequest, RequestHead
from inferd.protocols.http.riders import HttpLane
from inferd.protocols.oip.shared_memory import REGION, ReadShared, no_shared_memory
from inferd.protocols.request_id import request_id
from inferd.serving.data_plane import DataPlane
from inferd.types.inference import InferenceRequest, InferenceResponse

_log = logging.getLogger("inferd.http")

_PATH = re.compile(rb"/v2/models/([^/?]+)(?:/versions/([^/?]+))?/infer(?:\?.*)?")

_NOT_EXPRESS = {b"inference-header-content-length", b"content-encoding", DEADLINE_HEADER}
"""Headers that change how a request is read, or how long it may take."""

_REGION = REGION.encode()

Decoded = tuple[InferenceRequest, OutputForm]


class InferRoute:
    """Answers `POST /v2/models/{name}[/versions/{version}]/infer`."""

    def __init__(self, plane: DataPlane, max_body_bytes: int) -> None:
        self.plane = plane
        self.max_body_bytes = max_body_bytes
        self._lanes = ExpressLanes(plane, oip_riders)

    def handler(self, head: RequestHead) -> Handler | None:
        """How to answer an inference request with such a head; None for any other request."""
        found = _PATH.fullmatch(head.target)
        if found is None:
            return None
        if head.method != b"POST":
            return _not_post
        name = unquote(found[1].decode("latin-1"))
        version = unquote((found[2] or b"").decode("latin-1"))
        if _NOT_EXPRESS.isdisjoint(head.fields):
            return HttpLane(self._lanes.lane(name, version), self.start, self.settle).add
        return lambda connection, request: self.start(connection, request, name, version)

    def start(
        self, connection: HttpConnection, request: HttpRequest, name: str, version: str
    ) -> "InferExchange":
        """Start to answer one request by itself."""
        exchange = InferExchange(self, connection, request)
        exchange.begin(name, version)
        return exchange

    def settle(
        self, connection: HttpConnection, request: HttpRequest,
        result: InferenceResponse | InferdError,
    ) -> None:  # fmt: skip
        """Answer one request with what has come of it."""
        InferExchange(self, connection, request).answer(result)


def _not_post(connection: HttpConnection, request: HttpRequest) -> None:
    connection.respond(405, error_body("inference needs POST"), headers=[(b"allow", b"POST")])


class InferExchange:
    """One inference request on one connection."""

    __slots__ = (
        "_connection", "_form", "_gone", "_headers", "_item", "_request", "_request_id", "_route",
    )  # fmt: skip

    def __init__(self, route: InferRoute, connection: HttpConnection, request: HttpRequest) -> None:
        self._route = route
        self._connection = connection
        self._request = request
        self._headers = request.head.fields
        self._request_id = request_id(self._headers.get(b"x-request-id"))
        self._form: OutputForm | None = None
        self._item: QueuedRequest | None = None
        self._gone = False

    def begin(self, name: str, version: str) -> None:
        """Decode and submit; an error is the answer."""
        headers = self._headers
        try:
            length = None
            text = headers.get(b"inference-header-content-length")
            if text is not None:
                length = _header_length(text)
            body = self._request.body
            encoding = headers.get(b"content-encoding")
            if (
                encoding is not None
                or (len(body) > OFFLOAD_BYTES and (length is None or length > OFFLOAD_BYTES))
                or (self._route.plane.shared_memory.on and _REGION in body[:length])
            ):
                self._decode_on_thread(name, version, encoding, length)
                return
            self._submit(self._decode(name, version, body, length))
        except InferdError as error:
            self.answer(error)

    def cancel(self) -> None:
        """The client has left."""
        self._gone = True
        if self._item is not None:
            self._item.cancel()

    def _decode(
        self, name: str, version: str, body: bytes, length: int | None,
        read: ReadShared = no_shared_memory,
    ) -> Decoded:  # fmt: skip
        if length is not None:
            if length > len(body):
                raise InvalidRequest(
                    f"Inference-Header-Content-Length is {length}, but the body has only "
                    f"{len(body)} bytes"
                )
            if length == 0:
                served = self._route.plane.served(name, version)
                batched = served.description.max_batch_size > 0
                return decode_raw(name, version, body, served.inputs, batched)
        return decode_request(name, version, body, length, read)

    def _submit(self, decoded: Decoded) -> None:
        request, self._form = decoded
        deadline = self._headers.get(DEADLINE_HEADER)
        if deadline is not None:
            request.deadline_ns = time.perf_counter_ns() + deadline_ns(deadline)
        try:
            self._item = self._route.plane.submit(request, self.answer)
        except OnlyStreams as error:
            raise Unsupported(
                "HTTP end point doesn't support models with decoupled transaction policy; use "
                f"/v2/models/{request.model_name}/generate_stream, POST "
                f"/models/{request.model_name}, or ModelStreamInfer over gRPC"
            ) from error

    def _decode_on_thread(
        self, name: str, version: str, encoding: bytes | None, length: int | None
    ) -> None:
        def work() -> Decoded:
            body = self._request.body
            if encoding is not None:
                text = encoding.decode("latin-1")
                body = decompress(body, text, self._route.max_body_bytes)
            with np.errstate(over="ignore"):
                read = self._route.plane.shared_memory.reader()
                return self._decode(name, version, body, length, read)

        def done(future: "asyncio.Future[Decoded]") -> None:
            if self._gone:
                return
            try:
                self._submit(future.result())
            except InferdError as error:
                self.answer(error)
            except Exception as error:
                self.answer(internal_error(_log, error, self._request_id))

        asyncio.get_running_loop().run_in_executor(None, work).add_done_callback(done)

    # -- the answer ------------------------------------------------------------------------------

    def answer(self, result: InferenceResponse | InferdError) -> None:
        """Send the one answer of this request; harmless when the client has left."""
        if self._gone:
            return
        if isinstance(result, InferenceResponse):
            try:
                body, length = encode_response(result, self._form or OutputForm())
            except InvalidRequest as error:
                result = error
            except Exception as error:
                result = internal_error(_log, error, self._request_id)
            else:
                encoding = answer_encoding(self._headers.get(b"accept-encoding"), len(body))
                if encoding:
                    compress_for(lambda small: self._send(small, length, encoding), body, encoding)
                else:
                    self._send(body, length)
                return
        answer_error(self._connection, self._request, result, self._request_id)

    def _send(self, body: bytes, length: int | None, encoding: str = "") -> None:
        if self._gone:
            return
        if length is None and not encoding:
            self._connection.respond_tensors(body, self._request_id)
            return
        headers: Headers = [(b"x-request-id", self._request_id)]
        if encoding:
            headers.append((b"content-encoding", encoding.encode()))
        if length is None:
            self._connection.respond(200, body, headers=headers)
            return
        headers.append((b"inference-header-content-length", b"%d" % length))
        self._connection.respond(200, body, b"application/octet-stream", headers)


def _header_length(text: bytes) -> int:
    """The length of the JSON part; int() alone would take signs, blanks and underscores."""
    if not text.isdigit() or len(text) > 18:
        raise InvalidRequest(
            "Inference-Header-Content-Length must be a non-negative integer, got "
            f"'{text.decode('latin-1')}'"
        )
    return int(text)
