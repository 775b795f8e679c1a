"""A StreamedCall: a call of a model that answers with a stream of results, in a task of its own.

Server-sent events, each a result in JSON; the last is `event: done`, or `event: error` with what
happened behind the first result. An error that stands for one result is an event, too. A client
that accepts application/json and no events gets a list of all results. Leaving ends the task, and
with it the model's work.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from inferd.errors import InferdError
from inferd.protocols.call.writing import whole
from inferd.protocols.faults import internal_error, log_fault
from inferd.protocols.http.errors import error_body
from inferd.protocols.http.event_stream import EventStream
from inferd.types.inference import InferenceResponse

if TYPE_CHECKING:
    from inferd.protocols.http.call.route import Call

_log = logging.getLogger("inferd.http")

_DONE = b"event: done\ndata: {}\n\n"


class StreamedCall:
    """One call being answered; an Exchange."""

    __slots__ = ("_call", "_events", "_task")

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._events = EventStream(call.connection, lambda: [(b"x-request-id", call.identity)])
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """The client has left."""
        self._call.cancel()
        self._task.cancel()

    async def _run(self) -> None:
        try:
            if wants_list(self._call.request.head.fields.get(b"accept", b"")):
                await self._collect()
            else:
                await self._stream()
        except InferdError as error:
            self._fail(error)
        except Exception as error:
            self._fail(internal_error(_log, error, self._call.identity))
        finally:
            self._events.close()

    async def _open(self) -> AsyncGenerator[InferenceResponse | InferdError, None]:
        """Decode, and open the model's stream."""
        call = self._call
        if call.is_heavy:
            loop = asyncio.get_running_loop()
            decoded = await loop.run_in_executor(None, call.decode_quietly)
        else:
            decoded = call.decode()
        return call.route.plane.stream(call.inference(decoded))

    async def _collect(self) -> None:
        call = self._call
        async with aclosing(await self._open()) as stream:
            results = [call.encode(whole(response)) async for response in stream]
        call.send(b"[%b]" % b",".join(results))

    async def _stream(self) -> None:
        call = self._call
        async with aclosing(await self._open()) as stream:
            self._events.arm()
            async for response in stream:
                if isinstance(response, InferdError):
                    self._events.send(self._error(response))
                else:
                    self._events.send(b"data: %b\n\n" % call.encode(response))
                await call.connection.drained()
        self._events.end(_DONE)

    def _fail(self, error: InferdError) -> None:
        call = self._call
        if self._events.begun:
            self._events.end(self._error(error))
        else:
            call.answer(error)

    def _error(self, error: InferdError) -> bytes:
        log_fault(_log, error, self._call.identity)
        return b"event: error\ndata: %b\n\n" % error_body(str(error))


def wants_list(accept: bytes) -> bool:
    """Whether an Accept header asks for JSON rather than for events."""
    text = accept.lower()
    return b"application/json" in text and b"text/event-stream" not in text
