"""Calls that a handler answers, each in a task of its own: of one message, and of streams."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from inferd.errors import InferdError, Overloaded, RequestTimeout
from inferd.protocols.faults import internal_error, log_fault
from inferd.protocols.grpc.call import UnaryCall
from inferd.protocols.grpc.framing import (
    Encoded,
    Frame,
    Malformed,
    Message,
    MessageReader,
    decompressed,
    framed,
    framed_compressed,
    framed_parts,
    joined,
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
from inferd.protocols.http.request_id import request_id
from inferd.protocols.http2.stream import Http2Stream
from inferd.protocols.pb.messages import parsed

if TYPE_CHECKING:
    from inferd.protocols.grpc.router import GrpcRouter

_log = logging.getLogger("inferd.grpc")

_clock_ns = time.perf_counter_ns

AHEAD = 4
"""Messages of a stream that may wait for their handler before the client is asked for no more."""


class Context:
    """What a handler may know of its call, and say beside its answer; a CallContext."""

    __slots__ = ("deadline_ns", "identity", "metadata", "trailing")

    def __init__(self, head: CallHead, identity: bytes, deadline_ns: int) -> None:
        self.metadata = head.metadata()
        self.identity = identity
        self.deadline_ns = deadline_ns
        self.trailing: dict[bytes, bytes] = {}

    def set_trailing(self, name: bytes, value: bytes) -> None:
        """Trailing metadata; of a name that ends in -bin any bytes."""
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
        try:
            context = Context(self.head, self.identity, self.deadline_ns)
            trailing = context.trailing
            kind = self._method.request
            request: Any = message if kind is None else parsed(kind, message)
            async with asyncio.timeout(_seconds(self.head)):
                answer = await self._method.handler(request, context)  # type: ignore[misc]
            self.send(serialized(answer), trailing)
        except InferdError as error:
            self.fail(error, trailing)
        except TimeoutError:
            self.fail(RequestTimeout("the deadline of the call has passed"), trailing)
        except Exception as error:
            self.fail(internal_error(_log, error, self.identity), trailing)


class StreamedCall:
    """A call whose answer, and perhaps whose request, is a stream; a StreamSink."""

    __slots__ = (
        "_arrived",
        "_begun",
        "_compressed",
        "_frames",
        "_half_closed",
        "_leaving",
        "_method",
        "_owed",
        "_reader",
        "_router",
        "_task",
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
        self._owed = 0
        self._half_closed = False
        self._leaving = False
        self._wrong: InferdError | None = None
        self._compressed = False
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
            self._frames.extend(self._reader.feed(chunk))
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
        if self._owed and len(self._frames) < AHEAD:
            self.stream.consumed(self._owed)
            self._owed = 0

    async def _messages(self) -> AsyncGenerator[Message, None]:
        """The client's messages, in order; raises what is wrong with them."""
        while True:
            while self._frames:
                compressed, message = self._frames.popleft()
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
        try:
            context = Context(self.head, self.identity, self.deadline_ns)
            trailing = context.trailing
            async with asyncio.timeout(_seconds(self.head)):
                messages = self._messages() if self._method.kind == "bidi" else self._only()
                async with aclosing(messages):
                    answers: Any = self._method.handler(messages, context)
                    async with aclosing(answers):
                        async for answer in answers:
                            await self._send(serialized(answer))
            if self._leaving:
                raise Overloaded("the server is shutting down")
            self._end(trailers(trailing), 0)
        except InferdError as error:
            self._fail(error, trailing)
        except TimeoutError:
            self._fail(RequestTimeout("the deadline of the call has passed"), trailing)
        except Exception as error:
            self._fail(internal_error(_log, error, self.identity), trailing)

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
        encoding = self.head.answer_encoding(self._compressed)
        self._begin(encoding)
        self._written.clear()
        if encoding:
            sent = self.stream.send(framed_compressed(joined(message), encoding))
        elif isinstance(message, bytes):
            sent = self.stream.send(framed(message))
        else:
            sent = [self.stream.send(part) for part in framed_parts(message)][-1]
        if not sent:
            await self._written.wait()

    def _begin(self, encoding: str = "") -> None:
        if not self._begun:
            self._begun = True
            self.stream.send_head(answer_head(self.identity, encoding))

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


def _seconds(head: CallHead) -> float | None:
    return head.timeout_ns / 1e9 if head.timeout_ns else None
