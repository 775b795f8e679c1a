"""The calls of one WebSocket: messages in, answers out in any order, cancelled by id
or all at once.

It refuses to know frames and sockets (`session.py`).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Protocol, cast

import numpy as np

from inferd.errors import InferdError, InvalidRequest, Overloaded
from inferd.protocols.call.codec import codec_of
from inferd.protocols.call.writing import whole
from inferd.protocols.faults import internal_error, log_fault
from inferd.protocols.websocket.messages import (
    MessageId,
    binary_id_in,
    binary_message,
    decode_binary,
    decode_text,
    done_message,
    error_message,
    id_in,
    outputs_message,
)
from inferd.serving.data_plane import DataPlane
from inferd.types.inference import InferenceRequest, InferenceResponse

_log = logging.getLogger("inferd.websocket")

MAX_IN_FLIGHT = 256
"""Calls that one connection may have unanswered."""

OFFLOAD_BYTES = 256 * 1024
"""Messages larger than this are decoded on a thread."""

Encode = Callable[[InferenceResponse], tuple[bytes, bool]]
"""An answer's bytes, and whether they are binary."""


class Sender(Protocol):
    """Where answers go."""

    def send(self, data: bytes, binary: bool) -> None:
        """Send one message."""

    def hold(self, held: bool) -> None:
        """Let nothing more come for now, or go on."""

    def drained(self) -> Awaitable[None]:
        """Wait until the client has read enough."""

    def rested(self) -> None:
        """Called when nothing is in flight any more."""


class _Cancellable(Protocol):
    def cancel(self) -> object:
        """Stop it."""


class _Parsed:
    """A message that may run: its request, and how to write its answers."""

    __slots__ = ("cancels", "encode", "id", "request", "streams")

    def __init__(self, id: MessageId) -> None:
        self.id = id
        self.cancels = False
        self.streams = False
        self.request: InferenceRequest = cast(InferenceRequest, None)
        self.encode: Encode = cast(Encode, None)


class WebSocketCalls:
    """Answers the messages of one client for one model."""

    def __init__(
        self, plane: DataPlane, name: str, version: str, session: str, sender: Sender
    ) -> None:
        self._plane = plane
        self._name = name
        self._version = version
        self._session = session
        self._sender = sender
        self._in_flight: dict[MessageId, _Cancellable | None] = {}
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self._decoding = False
        self._gone = False

    @property
    def busy(self) -> bool:
        """Whether anything is not answered."""
        return bool(self._in_flight) or self._decoding or bool(self._waiting)

    def take(self, data: bytes, binary: bool) -> None:
        """One message from the client."""
        self._waiting.append((data, binary))
        if not self._decoding:
            self._go_on()

    def leave(self) -> None:
        """The client has left: cancel everything."""
        self._gone = True
        self._waiting.clear()
        running, self._in_flight = self._in_flight, {}
        for item in running.values():
            if item is not None:
                item.cancel()

    # -- in --------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Take messages in the order they came; a large one is decoded on a thread meanwhile."""
        while self._waiting and not self._decoding:
            data, binary = self._waiting.popleft()
            if len(data) > OFFLOAD_BYTES:
                self._decode_on_thread(data, binary)
                return
            try:
                parsed = self._parse(data, binary)
            except InferdError as error:
                self._refuse(data, binary, error)
            else:
                self._begin(parsed)

    def _decode_on_thread(self, data: bytes, binary: bool) -> None:
        self._decoding = True
        self._sender.hold(True)

        def work() -> _Parsed:
            with np.errstate(over="ignore"):
                return self._parse(data, binary)

        def done(future: "asyncio.Future[_Parsed]") -> None:
            self._decoding = False
            if self._gone:
                return
            try:
                self._begin(future.result())
            except InferdError as error:
                self._refuse(data, binary, error)
            except Exception as error:
                self._refuse(data, binary, internal_error(_log, error))
            self._sender.hold(False)
            self._go_on()
            self._rest()

        asyncio.get_running_loop().run_in_executor(None, work).add_done_callback(done)

    def _parse(self, data: bytes, binary: bool) -> _Parsed:
        """Only reads; raises InvalidRequest, ModelNotFound, ModelUnavailable."""
        if binary:
            request, form = decode_binary(self._name, self._version, data)
            id = request.id
            parsed = _Parsed(id)
            parsed.encode = lambda response: (binary_message(id, response, form), True)
            served = self._plane.served(self._name, self._version)
        else:
            message = decode_text(data)
            parsed = _Parsed(message.id)
            if message.cancel:
                parsed.cancels = True
                return parsed
            served = self._plane.served(self._name, self._version)
            codec = codec_of(served)
            tensors, single = codec.decode(bytes(message.inputs))
            request = InferenceRequest(self._name, self._version, tensors)
            request.session = message.session
            key = message.id
            parsed.encode = lambda response: (
                outputs_message(key, codec.encode(response.outputs, single)), False,
            )  # fmt: skip
        request.session = request.session or self._session
        parsed.request = request
        parsed.streams = served.signature.streams
        return parsed

    def _refuse(self, data: bytes, binary: bool, error: InferdError) -> None:
        id = binary_id_in(data) if binary else id_in(data)
        self._sender.send(error_message(id, str(error)), False)

    # -- running ---------------------------------------------------------------------------------

    def _begin(self, parsed: _Parsed) -> None:
        id = parsed.id
        if parsed.cancels:
            self._cancel(id)
            return
        try:
            self._check_room(id)
            self._in_flight[id] = None
            if parsed.streams:
                self._in_flight[id] = asyncio.get_running_loop().create_task(self._stream(parsed))
                return
            item = self._plane.submit(parsed.request, lambda result: self._answer(parsed, result))
            if id in self._in_flight:
                self._in_flight[id] = item
        except _NoRoom as error:
            self._sender.send(error_message(id, str(error)), False)
        except InferdError as error:
            self._fail(id, error)

    def _check_room(self, id: MessageId) -> None:
        if id in self._in_flight:
            raise _NoRoom(f"id {id!r} is in flight already; give each call an id of its own")
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            raise _NoRoom(
                f"{MAX_IN_FLIGHT} calls are in flight on this connection; wait for an answer, or "
                "open another connection"
            )

    def _cancel(self, id: MessageId) -> None:
        """Stop a call; one that is not there, or is answered already, needs nothing."""
        if id not in self._in_flight:
            return
        item = self._in_flight[id]
        if item is not None:
            item.cancel()
        self._end(id, error_message(id, "cancelled"))

    def _answer(self, parsed: _Parsed, result: InferenceResponse | InferdError) -> None:
        if parsed.id not in self._in_flight:
            return
        if isinstance(result, InferenceResponse):
            try:
                self._end(parsed.id, *parsed.encode(result))
                return
            except InvalidRequest as error:
                result = error
            except Exception as error:
                result = internal_error(_log, error)
        self._fail(parsed.id, result)

    async def _stream(self, parsed: _Parsed) -> None:
        id = parsed.id
        try:
            async with aclosing(self._plane.stream(parsed.request)) as stream:
                async for response in stream:
                    self._sender.send(*parsed.encode(whole(response)))
                    await self._sender.drained()
        except InferdError as error:
            self._fail(id, error)
        except Exception as error:
            self._fail(id, internal_error(_log, error))
        else:
            self._end(id, done_message(id))

    def _fail(self, id: MessageId, error: InferdError) -> None:
        log_fault(_log, error)
        self._end(id, error_message(id, str(error)))

    def _end(self, id: MessageId, last: bytes, binary: bool = False) -> None:
        """Send the last message of a call."""
        self._in_flight.pop(id, None)
        if not self._gone:
            self._sender.send(last, binary)
            self._rest()

    def _rest(self) -> None:
        if not self.busy:
            self._sender.rested()


class _NoRoom(Overloaded):
    """A call that never began, under an id that may belong to another."""
