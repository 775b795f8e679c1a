"""An engine in a process of its own: what kills it does not kill the server.

This is the server's end of a socket pair. Its end of file is the one sign of an end, both ways: a
process that has ended, however it did, has closed its socket, and one whose server has gone, or
wants it no more, reads the end of file and ends (`child.py`).
"""

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

from inferd.config.engine import EngineConfig
from inferd.engine.host.base import Hear
from inferd.engine.host.messages import ChildEvent, Command, Ended, Start
from inferd.errors import EngineDead, InferdError
from inferd.processes.frames import Frames, frame
from inferd.processes.life import ending, reap, start_process
from inferd.processes.log_lines import Logged, write_log

_log = logging.getLogger("inferd.engine")

CHILD: Final = "inferd.engine.host.child"


@asynccontextmanager
async def process_host(
    folder: Path, config: EngineConfig, hear: Hear
) -> "AsyncIterator[ProcessHost]":
    """Run an engine in a process of its own while the context is open."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = start_process(
            [sys.executable, "-m", CHILD, str(theirs.fileno())], [theirs.fileno()]
        )
    host = ProcessHost(process, hear)
    try:
        await asyncio.get_running_loop().create_unix_connection(lambda: host, sock=ours)
        _log.info("the engine has a process of its own", extra={"pid": process.pid})
        host.send(Start(str(folder), config, _log.getEffectiveLevel()))
        yield host
    finally:
        host.hang_up()
        await asyncio.to_thread(reap, process)


class ProcessHost(asyncio.Protocol):
    """An EngineHost."""

    def __init__(self, process: subprocess.Popen[bytes], hear: Hear) -> None:
        self._process = process
        self._hear = hear
        self._frames: Frames[ChildEvent] = Frames(ChildEvent)
        self._transport: asyncio.Transport | None = None
        self._over = asyncio.Event()
        self._why: InferdError | None = None

    def send(self, command: Start | Command) -> None:
        """See EngineHost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(command))

    async def wait(self) -> InferdError:
        """See EngineHost."""
        await self._over.wait()
        if self._why is None:
            code = await asyncio.to_thread(reap, self._process)
            self._why = EngineDead(f"the engine's process ended: {ending(code)}")
        return self._why

    def hang_up(self) -> None:
        """Close the socket, whereupon the process ends."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected from the start."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand on what has arrived whole."""
        for event in self._frames.feed(data):
            match event:
                case Ended(error):
                    self._why = error
                    self._over.set()
                case Logged():
                    write_log(event)
                case _:
                    self._hear(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """The process has ended, or hears no more and will."""
        self._over.set()
