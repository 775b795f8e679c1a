"""The direct path of ModelInfer: no task, one callback from message to answer. The plainest ones of
one turn ride together (`protocols/express`).
"""

import logging
import time
from typing import TYPE_CHECKING

from inferd.errors import InferdError, InvalidRequest, OnlyStreams, RequestTimeout
from inferd.protocols.express.lane import ExpressLanes
from inferd.protocols.express.rider import MAX_BODY_BYTES, Held
from inferd.protocols.faults import internal_error
from inferd.protocols.grpc.call import TOO_LATE, UnaryCall
from inferd.protocols.grpc.framing import Message
from inferd.protocols.grpc.head import CallHead
from inferd.protocols.grpc.inference.request_codec import (
    decode_infer,
    is_heavy,
    may_share,
    place_for,
)
from inferd.protocols.grpc.inference.response_codec import encode_infer, not_by_infer
from inferd.protocols.grpc.inference.riders import infer_riders, model_named
from inferd.protocols.http2.stream import Http2Stream
from inferd.serving.data_plane import DataPlane
from inferd.types.inference import InferenceRequest, InferenceResponse

if TYPE_CHECKING:
    from inferd.protocols.grpc.router import GrpcRouter

_log = logging.getLogger("inferd.grpc")

Decoded = tuple[InferenceRequest, bool]

_clock_ns = time.perf_counter_ns


class InferRoute:
    """Starts ModelInfers; a Direct."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self.lanes = ExpressLanes(plane, infer_riders)

    def __call__(self, router: "GrpcRouter", stream: Http2Stream, head: CallHead) -> "InferCall":
        return InferCall(router, stream, head, self)


class InferCall(UnaryCall):
    """One ModelInfer on one stream; a Rider."""

    __slots__ = ("_item", "_route", "body")

    def __init__(
        self, router: "GrpcRouter", stream: Http2Stream, head: CallHead, route: InferRoute
    ) -> None:
        super().__init__(router, stream, head)
        self._route = route
        self._item: Held | None = None
        self.body = b""

    @staticmethod
    def place(size: int, beginning: memoryview | bytes) -> memoryview:
        """See UnaryCall."""
        return place_for(size, beginning)

    def begin(self, message: Message) -> None:
        """See UnaryCall."""
        if type(message) is bytes and len(message) <= MAX_BODY_BYTES and not self.deadline_ns:
            try:
                lane = self._route.lanes.lane(*model_named(message))
            except (ValueError, IndexError):
                pass  # whatever it is, it has its say below
            else:
                self.body = message
                lane.add(self)
                return
        self._start(message)

    # -- as a Rider ------------------------------------------------------------------------------

    @property
    def left(self) -> bool:
        """See Rider."""
        return self.over

    def wait(self, held: Held) -> None:
        """See Rider."""
        self._item = held

    def settle(self, result: InferenceResponse | InferdError) -> None:
        """See Rider."""
        self._done(result)

    def walk(self) -> None:
        """See Rider."""
        self._start(self.body)

    def answer(self, body: bytes) -> None:
        """See Rider."""
        self._item = None  # it knows this call: together they would wait for the collector
        if not self.over:
            self.send(body, {})

    # -- by itself -------------------------------------------------------------------------------

    def _start(self, message: Message) -> None:
        try:
            shared = self._route.plane.shared_memory
            if is_heavy(message) or (shared.on and may_share(message)):
                self.on_thread(self._submit, decode_infer, message, shared.reader())
            else:
                self._submit(decode_infer(message))
        except InferdError as error:
            self.fail(error)
        except Exception as error:
            self.fail(internal_error(_log, error, self.identity))

    def cancel(self) -> None:
        """See UnaryCall."""
        item, self._item = self._item, None
        if item is not None:
            item.cancel()

    def _submit(self, decoded: Decoded) -> None:
        request, _ = decoded
        if self.deadline_ns:
            if _clock_ns() >= self.deadline_ns:
                raise RequestTimeout(TOO_LATE)
            request.deadline_ns = self.deadline_ns
        try:
            self._item = self._route.plane.submit(request, self._done)
        except OnlyStreams as error:
            raise not_by_infer() from error

    def _done(self, result: InferenceResponse | InferdError) -> None:
        self._item = None
        if self.over:
            return
        if isinstance(result, InferenceResponse):
            try:
                self.send(encode_infer(result), {})
                return
            except InvalidRequest as error:
                result = error
            except Exception as error:
                result = internal_error(_log, error, self.identity)
        self.fail(result)
