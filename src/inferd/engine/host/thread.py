"""An engine in a thread of this process: nothing is copied, and what crashes, crashes all."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from queue import SimpleQueue

from inferd.engine.host.base import Hear
from inferd.engine.host.loop import EngineLoop, Load
from inferd.engine.host.messages import Close, Command, Ended, Event, Loaded
from inferd.errors import InferdError


@asynccontextmanager
async def thread_host(load: Load, name: str, hear: Hear) -> "AsyncIterator[ThreadHost]":
    """Run an engine in a thread while the context is open."""
    host = ThreadHost(hear)
    engine = EngineLoop(load, host.commands, host.tell)
    # A daemon, since nothing can interrupt a load: Python need not wait for it in the end.
    thread = threading.Thread(target=engine.run, name=f"inferd-{name}", daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.send(Close())
        if host.loaded:
            await asyncio.to_thread(thread.join)


class ThreadHost:
    """An EngineHost."""

    def __init__(self, hear: Hear) -> None:
        self.commands: SimpleQueue[Command] = SimpleQueue()
        self.loaded = False
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[InferdError] = self._loop.create_future()

    def send(self, command: Command) -> None:
        """See EngineHost."""
        self.commands.put(command)

    async def wait(self) -> InferdError:
        """See EngineHost."""
        return await asyncio.shield(self._ended)

    def tell(self, event: Event) -> None:
        """Hand an event to the loop; on the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._take, event)
        except RuntimeError:  # the loop is closed: nobody listens any more
            self.commands.put(Close())

    def _take(self, event: Event) -> None:
        if isinstance(event, Ended):
            self._ended.set_result(event.error)
            return
        self.loaded = self.loaded or isinstance(event, Loaded)
        self._hear(event)
