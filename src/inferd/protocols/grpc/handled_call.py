"""Calls that a handler answers, each in a task of its own: of one message, and of streams."""

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from inferd.errors import InferdError, Overloaded, RequestCancelled, RequestTimeout
from inferd.protocols.faults import internal_error, log_fault
from inferd.protocols.grpc.call import OFFLOAD_BYTES, TOO_LATE, UnaryCall
from inferd.protocols.grpc.framing import (
    MIN_COMPRESS_BYTES,
    Encoded,
    Frame,
    Message,
    MessageReader,
    decompressed,
    framed,
    framed_compressed,
    framed_parts,
    joined,
    size_of,
)
from inferd.protocols.grpc.head import (
    CallHead,
    answer_head,
    error_block,
    error_trailers,
    trailers,
)
from inferd.protocols.grpc.methods import Method
from inferd.protocols.grpc.status import status_of
from inferd.protocols.http2.stream import Http2Stream
from inferd.protocols.malformed import Malformed, parsed
from inferd.protocols.request_id import request_id

if TYPE_CHECKING:
    from inferd.protocols.grpc.router import GrpcRouter

_log = logging.getLogger("inferd.grpc")

_clock_ns = time.perf_counter_ns

AHEAD = 4
AHEAD_BYTES = 1024 * 1024
"""Messages of a stream that may wait for their handler before the client is asked for no more."""

_NAME = re.compile(rb"(?!grpc-)[0-9a-z_.-]+")
_TEXT = re.compile(rb"(?! )[ -~]*(?<! )")
"""What gRPC allows metadata to be."""


class Context:
    """What a handler may know of its call, and say beside its answer; a CallContext."""

    __slots__ = ("deadline_ns", "identity", "metadata", "trailing")

    def __init__(self, head: CallHead, identity: bytes, deadline_ns: int) -> None:
        self.metadata = head.metadata()
        self.identity = identity
        self.deadline_ns = deadline_ns
        self.trailing: dict[bytes, bytes] = {}

    def set_trailing(self, name: bytes, value: bytes) -> None:
        """Trailing metadata; of a name that ends in -bin any bytes. Raises ValueError."""
        if not _NAME.fullmatch(name) or not (name.endswith(b"-bin") or _TEXT.fullmatch(value)):
            raise ValueError(f"trailing metadata {name!r} cannot be {value!r}")
        self.trailing[name] = value


class HandledCall(UnaryCall):
    """A call of one message and one answer."""

    __slots__ = ("_method", "_task")

    def __init__(
        self, router: "GrpcRouter", stream: Http2Stream, head: CallHead, method: Method
    ) -> None:
        super().__init__(router, stream, head)
        self._method = method
        self._task: asyncio.Task[None] | None = None

    def begin(self, message: Message) -> None:
        """See UnaryCall."""
        self._task = asyncio.get_running_loop().create_task(self._run(message))

    def cancel(self) -> None:
        """See UnaryCall."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, message: Message) -> None:
        trailing: Mapping[bytes, bytes] = {}
        limit = asyncio.timeout(_seconds_left(self.deadline_ns))
        try:
            context = Context(self.head, self.identity, self.deadline_ns)
            trailing = context.trailing
            kind = self._method.request
            request: Any = message if kind is None else parsed(kind, message)
            async with limit:
                answer = await self._method.handler(request, context)  # type: ignore[misc]
            self.send(serialized(answer), trailing)
        except (Exception, asyncio.CancelledError) as error:
            self.fail(_told(error, limit, self.identity), trailing)


class StreamedCall:
    """A call whose answer, and perhaps whose request, is a stream; a StreamSink."""

    __slots__ = (
        "_arrived",
        "_begun",
        "_compressed",
        "_encoding",
        "_frames",
        "_half_closed",
        "_leaving",
        "_method",
        "_owed",
        "_reader",
        "_router",
        "_task",
        "_waiting_bytes",
        "_written",
        "_wrong",
        "deadline_ns",
        "head",
        "identity",
        "over",
        "start_ns",
        "stream",
    )  # fmt: skip

    def __init__(
        self, router: "GrpcRouter", stream: Http2Stream, head: CallHead, method: Method
    ) -> None:
        self._router = router
        self._method = method
        self.stream = stream
        self.head = head
        self.over = False
        self.identity = request_id(head.request_id)
        self.start_ns = _clock_ns()
        self.deadline_ns = self.start_ns + head.timeout_ns if head.timeout_ns else 0
        self._reader = MessageReader(router.max_message_bytes)
        self._frames: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._owed = 0
        self._half_closed = False
        self._leaving = False
        self._wrong: InferdError | None = None
        self._compressed = False
        self._encoding = ""
        self._begun = False
        self._arrived = asyncio.Event()
        self._written = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._done)
        router.streams.add(self)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._router.streams.discard(self)

    # -- in --------------------------------------------------------------------------------------

    def data(self, chunk: memoryview | bytes) -> None:
        """See StreamSink. The client is asked for more as long as few messages wait."""
        if self._wrong is not None:
            return
        self._owed += len(chunk)
        try:
            for frame in self._reader.feed(chunk):
                self._frames.append(frame)
                self._waiting_bytes += len(frame[1])
        except InferdError as error:
            self._wrong = error
        self._ask()
        self._arrived.set()

    def ended(self) -> None:
        """See StreamSink."""
        self._half_closed = True
        if self._reader.in_message:
            self._wrong = Malformed("the stream ended in the middle of a message")
        self._arrived.set()

    def gone(self, code: int) -> None:
        """See StreamSink."""
        if not self.over:
            self.over = True
            self._task.cancel()
            self._router.left(self)

    def writable(self) -> None:
        """See StreamSink."""
        self._written.set()

    def leave(self) -> None:
        """The server stops: what has come is answered, and more is not waited for."""
        if not self._half_closed:
            self._half_closed = self._leaving = True
            self._arrived.set()

    def _ask(self) -> None:
        if self._owed and len(self._frames) < AHEAD and self._waiting_bytes < AHEAD_BYTES:
            self.stream.consumed(self._owed)
            self._owed = 0

    async def _messages(self) -> AsyncGenerator[Message, None]:
        """The client's messages, in order; raises what is wrong with them."""
        while True:
            while self._frames:
                compressed, message = self._frames.popleft()
                self._waiting_bytes -= len(message)
                self._ask()
                if compressed:
                    self._compressed = True
                    message = await asyncio.get_running_loop().run_in_executor(
                        None, decompressed, message, self.head.encoding,
                        self._router.max_message_bytes,
                    )  # fmt: skip
                yield message
            if self._wrong is not None:
                raise self._wrong
            if self._half_closed:
                return
            self._arrived.clear()
            await self._arrived.wait()

    # -- out -------------------------------------------------------------------------------------

    async def _run(self) -> None:
        trailing: Mapping[bytes, bytes] = {}
        limit = asyncio.timeout(_seconds_left(self.deadline_ns))
        try:
            context = Context(self.head, self.identity, self.deadline_ns)
            trailing = context.trailing
            async with limit:
                messages = self._messages() if self._method.kind == "bidi" else self._only()
                async with aclosing(messages):
                    answers: Any = self._method.handler(messages, context)
                    async with aclosing(answers):
                        async for answer in answers:
                            await self._send(serialized(answer))
            if self._leaving:
                raise Overloaded("the server is shutting down")
            self._end(trailers(trailing), 0)
        except (Exception, asyncio.CancelledError) as error:
            self._fail(_told(error, limit, self.identity), trailing)

    async def _only(self) -> AsyncGenerator[Message, None]:
        """The one message of a call that has one."""
        count = 0
        async for message in self._messages():
            count += 1
            if count > 1:
                raise Malformed(f"{self._method.path} takes one message, not several")
            yield message
        if not count:
            raise Malformed("the stream ended without a message")

    async def _send(self, message: Encoded) -> None:
        self._begin()
        encoding = self._encoding
        size = size_of(message)
        if not encoding or size < MIN_COMPRESS_BYTES:
            encoding = ""
        elif size > OFFLOAD_BYTES:
            loop = asyncio.get_running_loop()
            small = await loop.run_in_executor(None, framed_compressed, joined(message), encoding)
        else:
            small = framed_compressed(joined(message), encoding)
        self._written.clear()
        if encoding:
            sent = self.stream.send(small)
        elif isinstance(message, bytes):
            sent = self.stream.send(framed(message))
        else:
            sent = [self.stream.send(part) for part in framed_parts(message)][-1]
        if not sent:
            await self._written.wait()

    def _begin(self) -> None:
        """Send the head, which says what is compressed for the whole stream."""
        if not self._begun:
            self._begun = True
            if self._compressed:
                self._encoding = self.head.answer_encoding()
            self.stream.send_head(answer_head(self.identity, self._encoding))

    def _end(self, last: bytes, status: int) -> None:
        if self.over:
            return
        self.over = True
        self._begin()
        self.stream.finish(last)
        self._router.answered(self, status)

    def _fail(self, error: InferdError, more: Mapping[bytes, bytes]) -> None:
        if self.over:
            return
        log_fault(_log, error, self.identity)
        if self._begun:
            self._end(error_trailers(error, more), status_of(error))
            return
        self.over = True
        self.stream.refuse(error_block(error, self.identity, more))
        self._router.answered(self, status_of(error))


def serialized(answer: Any) -> Encoded:
    """The bytes of what a handler answers."""
    return answer if isinstance(answer, bytes | list) else answer.SerializeToString()


def _seconds_left(deadline_ns: int) -> float | None:
    return (deadline_ns - _clock_ns()) / 1e9 if deadline_ns else None


def _told(
    error: Exception | asyncio.CancelledError, limit: asyncio.Timeout, identity: bytes
) -> InferdError:
    """What a client hears of whatever has ended its call."""
    if isinstance(error, InferdError):
        return error
    if isinstance(error, asyncio.CancelledError):  # of what the handler waited for, or of the task
        return RequestCancelled("the call was given up")
    if isinstance(error, TimeoutError) and limit.expired():
        return RequestTimeout(TOO_LATE)
    return internal_error(_log, error, identity)
