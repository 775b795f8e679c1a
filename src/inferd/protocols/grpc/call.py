"""Calls of one request message: what arrives becomes a message, what is answered becomes an answer,
in one piece where it is small. What a message means, subclasses know.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from inferd.errors import InferdError
from inferd.protocols.faults import Unforeseen, internal_error, log_fault
from inferd.protocols.grpc.framing import (
    MIN_COMPRESS_BYTES,
    Encoded,
    Frame,
    Message,
    MessageReader,
    anywhere,
    decompressed,
    framed,
    framed_compressed,
    framed_parts,
    joined,
    size_of,
)
from inferd.protocols.grpc.head import OK, CallHead, answer_head, error_block, trailers
from inferd.protocols.grpc.status import status_of
from inferd.protocols.http2.stream import Http2Stream
from inferd.protocols.malformed import Malformed
from inferd.protocols.request_id import request_id

if TYPE_CHECKING:
    from inferd.protocols.grpc.router import GrpcRouter

T = TypeVar("T")

_log = logging.getLogger("inferd.grpc")

OFFLOAD_BYTES = 256 * 1024
"""Larger messages are taken apart, and larger answers compressed, on a thread."""

TOO_LATE = "the deadline of the call has passed"

_clock_ns = time.perf_counter_ns


class UnaryCall:
    """One call on one stream; a StreamSink."""

    __slots__ = (
        "_compressed", "_message", "_reader", "deadline_ns", "head", "identity", "over", "router",
        "start_ns", "stream",
    )  # fmt: skip

    def __init__(self, router: "GrpcRouter", stream: Http2Stream, head: CallHead) -> None:
        self.router = router
        self.stream = stream
        self.head = head
        self.over = False
        """Answered, or nobody is there to answer."""
        self.start_ns = _clock_ns()
        self.deadline_ns = self.start_ns + head.timeout_ns if head.timeout_ns else 0
        self.identity = request_id(head.request_id)
        self._message: Message | None = None
        self._compressed = False
        self._reader: MessageReader | None = None

    # -- in --------------------------------------------------------------------------------------

    def data(self, chunk: memoryview | bytes) -> None:
        """See StreamSink. A small message comes whole, and needs no reader."""
        if self.over:
            return
        if self._reader is None:
            if self._message is None and len(chunk) >= 5 and chunk[0] == 0:
                size = int.from_bytes(chunk[1:5], "big")
                if len(chunk) == size + 5 and size <= self.router.max_message_bytes:
                    self._message = bytes(chunk[5:])
                    return
            self._reader = MessageReader(self.router.max_message_bytes, self.place)
        self.router.intake(self.stream.connection).took(self.stream, len(chunk))
        try:
            frames = self._reader.feed(chunk)
            if frames:
                self._take(frames)
        except InferdError as error:
            self.fail(error)

    def _take(self, frames: list[Frame]) -> None:
        if self._message is not None or len(frames) > 1:
            raise Malformed(f"{self.head.fields[b':path'].decode()} takes one message, not several")
        ((self._compressed, self._message),) = frames

    def ended(self) -> None:
        """See StreamSink."""
        if self.over:
            return
        if self._reader is not None:
            self.router.intake(self.stream.connection).ended(self.stream)
            if self._reader.in_message:
                self.fail(Malformed("the stream ended in the middle of a message"))
                return
        if self._message is None:
            self.fail(Malformed("the stream ended without a message"))
        elif self._compressed:
            most = self.router.max_message_bytes
            self.on_thread(self.begin, decompressed, self._message, self.head.encoding, most)
        else:
            self.begin(self._message)

    def gone(self, code: int) -> None:
        """See StreamSink."""
        if self._reader is not None:
            self.router.intake(self.stream.connection).ended(self.stream)
        if not self.over:
            self.over = True
            self.cancel()
            self.router.left(self)

    def writable(self) -> None:
        """See StreamSink; an answer is whole when it is sent, and waits by itself."""

    def on_thread(self, then: Callable[[T], None], work: Callable[..., T], *given: object) -> None:
        """Do work on a thread, and go on with what it gives; what either raises is the answer."""

        def done(future: "asyncio.Future[T]") -> None:
            try:
                # Asked for also when the client has left: asyncio complains of what nobody sees.
                found = future.result()
                if not self.over:
                    then(found)
            except InferdError as error:
                self.fail(error)
            except Exception as error:
                self.fail(internal_error(_log, error, self.identity))

        asyncio.get_running_loop().run_in_executor(None, work, *given).add_done_callback(done)

    # -- what subclasses do ----------------------------------------------------------------------

    @staticmethod
    def place(size: int, beginning: memoryview | bytes) -> memoryview:
        """Where a large message is put together; see Place."""
        return anywhere(size, beginning)

    def begin(self, message: Message) -> None:
        """The request is here."""
        raise NotImplementedError

    def cancel(self) -> None:
        """The client has left."""
        raise NotImplementedError

    # -- out -------------------------------------------------------------------------------------

    def send(self, message: Encoded, more: Mapping[bytes, bytes]) -> None:
        """Send the one answer; `more` is trailing metadata."""
        if self._compressed:
            encoding = self.head.answer_encoding()
            if encoding and size_of(message) >= MIN_COMPRESS_BYTES:
                self._answer_compressed(joined(message), encoding, more)
                return
        head, last = answer_head(self.identity), trailers(more) if more else OK
        self.over = True
        if isinstance(message, bytes):
            self.stream.answer(head, framed(message), last)
        else:
            self.stream.send_head(head)
            for part in framed_parts(message):
                self.stream.send(part)
            self.stream.finish(last)
        self.router.answered(self, 0)

    def _answer_compressed(self, body: bytes, encoding: str, more: Mapping[bytes, bytes]) -> None:
        head, last = answer_head(self.identity, encoding), trailers(more)

        def send(small: bytes) -> None:
            self.over = True
            self.stream.answer(head, small, last)
            self.router.answered(self, 0)

        if len(body) <= OFFLOAD_BYTES:
            send(framed_compressed(body, encoding))
        else:
            self.on_thread(send, framed_compressed, body, encoding)

    def fail(
        self, error: InferdError | None = None, more: Mapping[bytes, bytes] | None = None
    ) -> None:
        """Answer with an error, by default that of a fault that is logged; harmless when the client
        has left."""
        error = error or Unforeseen("internal error; the server's log has it")
        if self.over:
            return
        log_fault(_log, error, self.identity)
        block = error_block(error, self.identity, more or {})
        self.over = True
        if self._reader is not None:
            self.router.intake(self.stream.connection).ended(self.stream)
        self.stream.refuse(block)
        self.router.answered(self, status_of(error))
