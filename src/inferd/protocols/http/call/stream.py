"""A StreamedCall: a call of a model that answers with a stream of results, in a task of its own.

Server-sent events, each a result in JSON; the last is `event: done`, or `event: error` with what
happened behind the first result. A client that accepts application/json and no events gets a list
of all results. Leaving ends the task, and with it the model's work.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from inferd.errors import InferdError
from inferd.protocols.http.errors import error_body
from inferd.protocols.http.request import Headers
from inferd.types.inference import InferenceResponse

if TYPE_CHECKING:
    from inferd.protocols.http.call.route import Call

_log = logging.getLogger("inferd.http")

PING_S = 10.0
"""How long a stream may be silent: proxies end connections on which nothing comes."""

_PING = b": still working\n\n"
_DONE = b"event: done\ndata: {}\n\n"
_STREAM_HEADERS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class StreamedCall:
    """One call being answered; an Exchange."""

    __slots__ = ("_begun", "_call", "_silent", "_task", "_timer")

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._begun = False
        self._silent = True
        self._timer: asyncio.TimerHandle | None = None
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
            _log.exception("call failed", extra={"request_id": self._call.identity.decode()})
            self._fail(InferdError(f"internal error: {type(error).__name__}"))
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _open(self) -> AsyncGenerator[InferenceResponse, None]:
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
            results = [call.encode(response) async for response in stream]
        call.send(b"[%b]" % b",".join(results))

    async def _stream(self) -> None:
        call = self._call
        async with aclosing(await self._open()) as stream:
            self._arm()
            async for response in stream:
                self._send(b"data: %b\n\n" % call.encode(response))
                await call.connection.drained()
        self._end(_DONE)

    # -- events ----------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        """Send events; the first take the answer's head with them."""
        self._silent = False
        connection = self._call.connection
        frame = b"%x\r\n%b\r\n" % (len(data), data)
        if not self._begun:
            self._begun = True
            kind = b"text/event-stream; charset=utf-8"
            headers = [(b"x-request-id", self._call.identity), *_STREAM_HEADERS]
            frame = connection.head(200, headers, kind, None) + frame
        connection.write(frame)

    def _end(self, data: bytes) -> None:
        self._send(data)
        self._call.connection.write(b"0\r\n\r\n")
        self._call.connection.finish(200)

    def _arm(self) -> None:
        self._silent = True
        self._timer = asyncio.get_running_loop().call_later(PING_S, self._ping)

    def _ping(self) -> None:
        if self._silent:
            self._send(_PING)
        self._arm()

    def _fail(self, error: InferdError) -> None:
        if self._begun:
            if not self._call.connection.closed:
                self._end(b"event: error\ndata: %b\n\n" % error_body(str(error)))
        else:
            self._call.answer(error)


def wants_list(accept: bytes) -> bool:
    """Whether an Accept header asks for JSON rather than for events."""
    text = accept.lower()
    return b"application/json" in text and b"text/event-stream" not in text
