"""The direct path of ModelInfer: no task, one callback from message to answer."""

import asyncio
import logging
from typing import TYPE_CHECKING

from inferd.batching.queue import QueuedRequest
from inferd.errors import InferdError, InvalidRequest
from inferd.protocols.faults import internal_error
from inferd.protocols.grpc.call import OFFLOAD_BYTES, UnaryCall
from inferd.protocols.grpc.framing import Message
from inferd.protocols.grpc.head import CallHead
from inferd.protocols.grpc.inference.infer_codec import InferForm, decode_infer, encode_infer
from inferd.protocols.http2.stream import Http2Stream
from inferd.types.inference import InferenceRequest, InferenceResponse

if TYPE_CHECKING:
    from inferd.protocols.grpc.router import GrpcRouter
    from inferd.serving.data_plane import DataPlane

_log = logging.getLogger("inferd.grpc")

Decoded = tuple[InferenceRequest, InferForm]


class InferCall(UnaryCall):
    """One ModelInfer on one stream."""

    __slots__ = ("_form", "_item", "_plane")

    def __init__(
        self, router: "GrpcRouter", stream: Http2Stream, head: CallHead, plane: "DataPlane"
    ) -> None:
        super().__init__(router, stream, head)
        self._plane = plane
        self._form: InferForm | None = None
        self._item: QueuedRequest | None = None

    def begin(self, message: Message) -> None:
        """See UnaryCall."""
        if len(message) > OFFLOAD_BYTES:
            work = asyncio.get_running_loop().run_in_executor(None, decode_infer, message)
            work.add_done_callback(self._decoded)
            return
        try:
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
        if self.over:
            return
        try:
            self._submit(future.result())
        except InferdError as error:
            self.fail(error)
        except Exception as error:
            self.fail(internal_error(_log, error, self.identity))

    def _submit(self, decoded: Decoded) -> None:
        request, self._form = decoded
        request.deadline_ns = self.deadline_ns
        self._item = self._plane.submit(request, self._done)

    def _done(self, result: InferenceResponse | InferdError) -> None:
        if self.over:
            return
        if isinstance(result, InferenceResponse):
            assert self._form is not None
            try:
                self.answer(encode_infer(result, self._form), {})
                return
            except InvalidRequest as error:
                result = error
            except Exception as error:
                result = internal_error(_log, error, self.identity)
        self.fail(result)
