"""The direct path of calls with named arguments: as that of inference, no task and no framework,
one callback from request to answer. A model that streams is answered in a task (`stream.py`).
"""

import asyncio
import logging
import re
import time
from urllib.parse import unquote

import numpy as np

from inferd.batching.queue import QueuedRequest
from inferd.errors import InferdError, InvalidRequest
from inferd.protocols.call.codec import CallCodec, codec_of
from inferd.protocols.express.lane import ExpressLanes
from inferd.protocols.faults import internal_error
from inferd.protocols.http.answers import answer_error
from inferd.protocols.http.call.body import Decoded, decode_call
from inferd.protocols.http.call.riders import call_riders
from inferd.protocols.http.call.stream import StreamedCall
from inferd.protocols.http.compression import (
    OFFLOAD_BYTES,
    answer_encoding,
    compress_for,
    decompress,
)
from inferd.protocols.http.connection import Exchange, Handler, HttpConnection
from inferd.protocols.http.deadline import DEADLINE_HEADER, deadline_ns
from inferd.protocols.http.errors import error_body
from inferd.protocols.http.request import HttpRequest, RequestHead
from inferd.protocols.http.riders import HttpLane
from inferd.protocols.request_id import request_id
from inferd.serving.data_plane import DataPlane
from inferd.types.inference import InferenceRequest, InferenceResponse

_log = logging.getLogger("inferd.http")

_PATH = re.compile(rb"/models/([^/?]+)(?:/versions/([^/?]+))?(?:/(explain))?(?:\?.*)?")
_ASGI = (b"GET", b"HEAD")

SESSION_HEADER = b"x-session-id"

_SAYS_MORE = {b"content-encoding", DEADLINE_HEADER, SESSION_HEADER}


class CallRoute:
    """Answers `POST /models/{name}[/versions/{version}][/explain]`."""

    def __init__(self, plane: DataPlane, max_body_bytes: int) -> None:
        self.plane = plane
        self.max_body_bytes = max_body_bytes
        self._lanes = ExpressLanes(plane, call_riders)

    def handler(self, head: RequestHead) -> Handler | None:
        """How to answer a call with such a head; None for any other request."""
        found = _PATH.fullmatch(head.target)
        if found is None or head.method in _ASGI:
            return None
        if head.method != b"POST":
            return _not_post
        name = unquote(found[1].decode("latin-1"))
        version = unquote((found[2] or b"").decode("latin-1"))
        if found[3] is None and _is_plain(head):
            return HttpLane(self._lanes.lane(name, version), self._start).add
        method = (found[3] or b"predict").decode()
        return lambda connection, request: self._start(connection, request, name, version, method)

    def _start(
        self, connection: HttpConnection, request: HttpRequest, name: str, version: str,
        method: str = "predict",
    ) -> Exchange | None:  # fmt: skip
        try:
            served = self.plane.served(name, version)
            codec = codec_of(served, method)
        except InferdError as error:
            identity = request_id(request.head.fields.get(b"x-request-id"))
            answer_error(connection, request, error, identity)
            return None
        call = Call(self, connection, request, name, version, method, codec)
        if codec.signature.streams:
            return StreamedCall(call)
        call.begin()
        return call


def _is_plain(head: RequestHead) -> bool:
    """Whether a head says nothing that changes how a call is read or answered."""
    fields = head.fields
    kind = fields.get(b"content-type", b"")
    return kind in (b"", b"application/json") and _SAYS_MORE.isdisjoint(fields)


def _not_post(connection: HttpConnection, request: HttpRequest) -> None:
    body = error_body("a model is called with POST, and described by GET")
    connection.respond(405, body, headers=[(b"allow", b"GET, HEAD, POST")])


class Call:
    """One call on one connection; an Exchange."""

    __slots__ = (
        "_gone", "_item", "_method", "_name", "_single", "_version", "codec", "connection",
        "identity", "request", "route",
    )  # fmt: skip

    def __init__(
        self, route: CallRoute, connection: HttpConnection, request: HttpRequest, name: str,
        version: str, method: str, codec: CallCodec,
    ) -> None:  # fmt: skip
        self.route = route
        self.connection = connection
        self.request = request
        self.codec = codec
        self.identity = request_id(request.head.fields.get(b"x-request-id"))
        self._name = name
        self._version = version
        self._method = method
        self._single = True
        self._item: QueuedRequest | None = None
        self._gone = False

    def begin(self) -> None:
        """Decode and submit; an error is the answer."""
        try:
            if self.is_heavy:
                self._decode_on_thread()
            else:
                self._submit(self.decode())
        except InferdError as error:
            self.answer(error)

    def cancel(self) -> None:
        """The client has left."""
        self._gone = True
        if self._item is not None:
            self._item.cancel()

    # -- in --------------------------------------------------------------------------------------

    @property
    def is_heavy(self) -> bool:
        """Whether decoding is too much for the loop's own thread."""
        request = self.request
        return len(request.body) > OFFLOAD_BYTES or b"content-encoding" in request.head.fields

    def decode(self) -> Decoded:
        """The body's tensors, on any thread; raises InvalidRequest, Unsupported."""
        fields, body = self.request.head.fields, self.request.body
        encoding = fields.get(b"content-encoding")
        if encoding is not None:
            body = decompress(body, encoding.decode("latin-1"), self.route.max_body_bytes)
        kind = fields.get(b"content-type", b"")
        if not kind or kind == b"application/json":
            return self.codec.decode(body)
        return decode_call(self.codec, body, kind)

    def decode_quietly(self) -> Decoded:
        """`decode` on a thread that is not the loop's."""
        with np.errstate(over="ignore"):
            return self.decode()

    def inference(self, decoded: Decoded) -> InferenceRequest:
        """The request for the model; raises InvalidRequest."""
        tensors, self._single = decoded
        request = InferenceRequest(self._name, self._version, tensors, method=self._method)
        fields = self.request.head.fields
        deadline = fields.get(DEADLINE_HEADER)
        if deadline is not None:
            request.deadline_ns = time.perf_counter_ns() + deadline_ns(deadline)
        session = fields.get(SESSION_HEADER)
        if session is not None:
            request.session = session.decode("latin-1")
        return request

    def _submit(self, decoded: Decoded) -> None:
        self._item = self.route.plane.submit(self.inference(decoded), self.answer)

    def _decode_on_thread(self) -> None:
        def done(future: "asyncio.Future[Decoded]") -> None:
            if self._gone:
                return
            try:
                self._submit(future.result())
            except InferdError as error:
                self.answer(error)
            except Exception as error:
                self.answer(internal_error(_log, error, self.identity))

        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, self.decode_quietly).add_done_callback(done)

    # -- out -------------------------------------------------------------------------------------

    def encode(self, response: InferenceResponse) -> bytes:
        """The JSON text of a response; raises InvalidRequest."""
        return self.codec.encode(response.outputs, self._single)

    def answer(self, result: InferenceResponse | InferdError) -> None:
        """Send the one answer of this call; harmless when the client has left."""
        if self._gone:
            return
        if isinstance(result, InferenceResponse):
            try:
                self.send(self.encode(result))
                return
            except InvalidRequest as error:
                result = error
            except Exception as error:
                result = internal_error(_log, error, self.identity)
        answer_error(self.connection, self.request, result, self.identity)

    def send(self, body: bytes) -> None:
        """Send JSON, compressed where that is wanted and worth it."""
        encoding = answer_encoding(self.request.head.fields.get(b"accept-encoding"), len(body))
        if encoding:
            compress_for(lambda small: self._send_compressed(encoding, small), body, encoding)
        else:
            self.connection.respond_tensors(body, self.identity)

    def _send_compressed(self, encoding: str, body: bytes) -> None:
        if not self._gone:
            headers = [(b"x-request-id", self.identity), (b"content-encoding", encoding.encode())]
            self.connection.respond(200, body, headers=headers)
