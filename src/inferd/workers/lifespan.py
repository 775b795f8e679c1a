"""The life of an ASGI application: it is told to start and to shut down, and says when it has.

Source: ASGI specification 3.0, lifespan 2.0. An application that does not know of it raises, and
is served without.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from inferd.errors import BackendError

Message = MutableMapping[str, Any]
AsgiApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class Lifespan:
    """Used on the loop on which the application runs. `state` is what it has put there, for every
    request to find."""

    def __init__(self, app: AsgiApp, log: logging.Logger) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._log = log
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._failure: str | None = None
        self._started = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once the application is ready; raises BackendError where it says that it is
        not."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._tell("lifespan.startup")
        if self._failure is not None:
            if self._failure:
                self._log.error("its application did not start:\n%s", self._failure)
            last = (self._failure.strip().splitlines() or ["it does not say why"])[-1]
            raise BackendError(f"the ASGI application did not start: {last}")

    async def shut_down(self) -> None:
        """Return once the application has let go; one that fails in it is logged."""
        if self._task is None or self._task.done() or not self._started:
            return
        await self._tell("lifespan.shutdown")
        if self._failure:
            self._log.error("its application did not shut down:\n%s", self._failure)

    async def _tell(self, what: str) -> None:
        self._answered.clear()
        self._told.put_nowait({"type": what})
        await self._answered.wait()

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._told.get, self._hear)
        except BaseException as error:  # also SystemExit, which would end the loop
            if self._started and self._failure is None:
                self._log.error("its application raised", exc_info=error)
        finally:
            self._answered.set()

    async def _hear(self, message: Message) -> None:
        kind = message["type"]
        if kind.endswith(".failed"):
            self._failure = str(message.get("message", ""))
        elif kind == "lifespan.startup.complete":
            self._started = True
        self._answered.set()
