"""Visits to a model's own HTTP routes, in its worker: its ASGI application answers each in a task.

That of an asynchronous model runs on the model's own loop, that of any other on a loop in a thread
of its own, beside the model's calls. Body and answer go by in pieces, of which only so many may be
on their way. It refuses to know who visits.

Source: ASGI specification 3.0, HTTP 2.4.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from inferd.errors import BackendError, InferdError
from inferd.types.visit import VisitHead
from inferd.workers.lifespan import AsgiApp, Lifespan, Message
from inferd.workers.messages import (
    CHUNK_BYTES,
    CHUNKS_AHEAD,
    Body,
    Chunk,
    Drunk,
    Event,
    Head,
    Left,
    Parted,
    Taken,
    Visit,
    VisitCommand,
)
from inferd.workers.runtime import Runtime

LEAVE_S: Final = 1.0
"""How long the application may take to end by itself when its client has left."""

Tell = Callable[[Event], None]


class Visits:
    """All visits of one worker."""

    def __init__(
        self, app: AsgiApp, loop: asyncio.AbstractEventLoop | None, tell: Tell, name: str
    ) -> None:
        self._app = app
        self._has_thread = loop is None
        self._loop = loop or asyncio.new_event_loop()
        self._tell = tell
        self._log = logging.getLogger(f"inferd.model.{name}")
        self._visits: dict[int, tuple[_Visit, asyncio.Task[None]]] = {}
        self._lifespan = Lifespan(app, self._log)

    def open(self) -> None:
        """Have the application start; raises BackendError."""
        if self._has_thread:
            thread = threading.Thread(target=self._loop.run_forever, name="inferd-visits")
            thread.daemon = True
            thread.start()
        self._finish(self._lifespan.start())

    def take(self, command: VisitCommand) -> None:
        """Take a command; from any thread."""
        self._loop.call_soon_threadsafe(self._take, command)

    def close(self) -> None:
        """Leave all visits and have the application shut down; the model's loop has stopped."""
        self._finish(self._close())

    def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        if self._has_thread:
            asyncio.run_coroutine_threadsafe(work, self._loop).result()
        else:
            self._loop.run_until_complete(work)

    async def _close(self) -> None:
        for visit, task in self._visits.values():
            visit.leave()
            task.cancel()
        await asyncio.gather(*[task for _, task in self._visits.values()])
        await self._lifespan.shut_down()

    def _take(self, command: VisitCommand) -> None:
        if isinstance(command, Visit):
            visit = _Visit(command.visit, command.head, self._lifespan.state, self._tell)
            self._visits[command.visit] = visit, self._loop.create_task(self._run(visit))
            return
        found = self._visits.get(command.visit)
        if found is None:
            return
        visit, task = found
        match command:
            case Body(_, data, more):
                visit.feed(data, more)
            case Taken():
                visit.taken()
            case Left():
                visit.leave()
                self._loop.call_later(LEAVE_S, task.cancel)

    async def _run(self, visit: "_Visit") -> None:
        error: InferdError | None = None
        try:
            await self._app(visit.scope, visit.receive, visit.send)
            if not visit.whole and not visit.left:
                raise RuntimeError("the application ended without a whole answer")
        except BaseException as raised:  # also SystemExit, which would end the loop
            if not visit.left:
                self._log.error("its application raised", exc_info=raised)
                error = BackendError(f"the application raised {type(raised).__name__}: {raised}")
        del self._visits[visit.number]
        self._tell(Parted(visit.number, error))


def open_visits(runtime: Runtime, tell: Tell, name: str) -> Visits | None:
    """Those of a model that has an application, which is started; raises InferdError."""
    app = runtime.asgi()
    if app is None:
        return None
    if not callable(app):
        raise BackendError(f"asgi is a {type(app).__name__}, which is no ASGI application")
    visits = Visits(app, runtime.loop, tell, name)
    visits.open()
    return visits


class _Visit:
    """One visit, as the application sees it."""

    def __init__(self, number: int, head: VisitHead, state: dict[str, Any], tell: Tell) -> None:
        self.number = number
        self.left = False
        """Whether its client has."""
        self.whole = False
        """Whether the answer is."""
        self.scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": head.method,
            "scheme": "http",
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "root_path": head.root_path,
            "headers": head.headers,
            "client": head.client,
            "server": None,
            "state": dict(state),
        }
        self._tell = tell
        self._pieces: deque[tuple[bytes, bool]] = deque()
        self._head: Head | None = None
        self._head_told = False
        self._credit = CHUNKS_AHEAD
        self._changed = asyncio.Event()

    def feed(self, data: bytes, more: bool) -> None:
        """A piece of the body is here."""
        self._pieces.append((data, more))
        self._changed.set()

    def taken(self) -> None:
        """A chunk of the answer has gone on."""
        self._credit += 1
        self._changed.set()

    def leave(self) -> None:
        """The client has left: `receive` says so, and `send` raises OSError."""
        self.left = True
        self._changed.set()

    async def receive(self) -> Message:
        """ASGI's receive."""
        while not (self.left or self.whole):
            if self._pieces:
                data, more = self._pieces.popleft()
                self._tell(Drunk(self.number))
                return {"type": "http.request", "body": data, "more_body": more}
            await self._change()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's send. Raises OSError when the client has left, RuntimeError and TypeError for what
        is not a message that may come now."""
        kind = message["type"]
        if self.left:
            raise OSError("the client has left")
        if kind == "http.response.start" and self._head is None:
            self._head = _head(self.number, message)
        elif kind == "http.response.body" and self._head is not None and not self.whole:
            await self._send_body(self._head, message)
        else:
            raise RuntimeError(f"the application sent '{kind}', which may not come now")

    async def _send_body(self, head: Head, message: Message) -> None:
        body = message.get("body", b"")
        if not isinstance(body, bytes | bytearray | memoryview):
            raise TypeError(f"the body of an answer is bytes, not {type(body).__name__}")
        more = bool(message.get("more_body", False))
        if not self._head_told:
            self._head_told = True
            self._tell(head)
        data = memoryview(body)
        for start in range(0, max(1, len(data)), CHUNK_BYTES):
            while self._credit == 0 and not self.left:
                await self._change()
            if self.left:
                raise OSError("the client has left")
            end = start + CHUNK_BYTES
            self._credit -= 1
            self._tell(Chunk(self.number, bytes(data[start:end]), more or end < len(data)))
        if not more:
            self.whole = True
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _head(number: int, message: Message) -> Head:
    status = message["status"]
    headers = [(name, value) for name, value in message.get("headers", ())]
    if not all(isinstance(part, bytes) for pair in headers for part in pair):
        raise TypeError("names and values of headers are bytes")
    return Head(number, int(status), headers)
