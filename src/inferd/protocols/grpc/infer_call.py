"""The direct path of ModelInfer: no task, one callback from message to answer. The plainest ones of
one turn ride together (`express.py`).
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from inferd.batching.queue import QueuedRequest
from inferd.errors import InferdError, InvalidRequest
from inferd.protocols.express import MAX_BODY_BYTES, ExpressLanes, Party
from inferd.protocols.faults import internal_error
from inferd.protocols.grpc.call import UnaryCall
from inferd.protocols.grpc.framing import Message
from inferd.protocols.grpc.head import CallHead
from inferd.protocols.grpc.inference.request_codec import decode_infer, is_heavy, place_for
from inferd.protocols.grpc.inference.response_codec import encode_infer
from inferd.protocols.grpc.inference.riders import InferRiders, model_named
from inferd.protocols.http2.stream import Http2Stream
from inferd.serving.data_plane import DataPlane
from inferd.types.inference import InferenceRequest, InferenceResponse

if TYPE_CHECKING:
    from inferd.protocols.grpc.router import GrpcRouter

_log = logging.getLogger("inferd.grpc")

Decoded = tuple[InferenceRequest, bool]


class InferRoute:
    """Starts ModelInfers; a Direct."""

    def __init__(self, plane: DataPlane) -> None:
        self.plane = plane
        self.lanes = ExpressLanes(plane, InferRiders)

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
        self._item: QueuedRequest | Party | None = None
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

    def wait(self, party: Party) -> None:
        """See Rider."""
        self._item = party

    def walk(self) -> None:
        """See Rider."""
        self._start(self.body)

    def answer(self, body: bytes) -> None:
        """See Rider."""
        if not self.over:
            self.send(body, {})

    # -- by itself -------------------------------------------------------------------------------

    def _start(self, message: Message) -> None:
        try:
            if is_heavy(message):
                work = asyncio.get_running_loop().run_in_executor(None, decode_infer, message)
                work.add_done_callback(self._decoded)
            else:
                self._submit(decode_infer(message))
        except InferdError as error:
            self.fail(error)
        except Exception as error:
            self.fail(internal_error(_log, error, self.identity))

    def cancel(self) -> None:
        """See UnaryCall."""
        if self._item is not None:
            self._item.cancel()

    def _decoded(self, future: "asyncio.Future[Decoded]") -> None:
        try:
            decoded = future.result()  # also when the client has left: see UnaryCall._on_thread
            if not self.over:
                self._submit(decoded)
        except InferdError as error:
            self.fail(error)
        except Exception as error:
            self.fail(internal_error(_log, error, self.identity))

    def _submit(self, decoded: Decoded) -> None:
        request, _ = decoded
        request.deadline_ns = self.deadline_ns
        self._item = self._route.plane.submit(request, self._done)

    def _done(self, result: InferenceResponse | InferdError) -> None:
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
