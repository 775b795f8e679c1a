"""The server's end of one worker: it starts the process, talks to it, and notices its end.

Used on the event loop's thread. It refuses to know why jobs come and whether a worker that has
ended is started again (`serving/worker_pool.py`).
"""

import asyncio
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, cast

import inferd
from inferd.errors import BackendError, InferdError
from inferd.processes.frames import Frames, Unread, frame
from inferd.processes.life import ending, reap, start_process
from inferd.processes.log_lines import Logged, write_log
from inferd.workers.memory import Window, create_memory
from inferd.workers.messages import Close, Command, Event, Failed, Start
from inferd.workers.output import OutputLines

_log = logging.getLogger("inferd.worker")

_BOOT: Final = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "inferd", sys.argv[3] + "/__init__.py", submodule_search_locations=[sys.argv[3]])
sys.modules["inferd"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from inferd.workers.child import main
main()
"""
"""Takes inferd from where the server has it, and everything else from the worker's own Python."""

Hear = Callable[[Event], None]
"""Takes what a worker says, in order."""

Ended = Callable[[InferdError], None]
"""Told once that a worker has ended, and why."""


class Worker(asyncio.Protocol):
    """One worker, from its start to its end."""

    def __init__(self, name: str, hear: Hear, ended: Ended) -> None:
        self._name = name
        self._hear = hear
        self._told_ended = ended
        self._frames: Frames[Event] = Frames(Event, self._unread)
        self._transport: asyncio.Transport | None = None
        self._memory = self._pidfd = -1
        self._windows: dict[int, tuple[Window, Window]] = {}
        self._failure: InferdError | None = None
        self._over = asyncio.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    async def start(self, python: str, start: Start, environment: Mapping[str, str]) -> None:
        """Start the process; it says Loaded or Failed when it has. Raises OSError, and then nothing
        is left."""
        loop = asyncio.get_running_loop()
        folder = str(Path(inferd.__file__).parent)
        with ExitStack() as undo:
            self._memory = create_memory()
            undo.callback(os.close, self._memory)
            ours, theirs = socket.socketpair()
            undo.enter_context(ours)
            with theirs:
                reading, writing = os.pipe()
                output = undo.enter_context(os.fdopen(reading, "rb", buffering=0))
                fds = [theirs.fileno(), self._memory]
                arguments = [python, "-P", "-c", _BOOT, *map(str, fds), folder]
                try:
                    self._process = start_process(
                        arguments, fds, environment={**os.environ, **environment}, output=writing
                    )
                finally:
                    os.close(writing)
            undo.callback(self._process.wait)
            undo.callback(self._process.kill)
            self.pid = self._process.pid
            # A process that the model has forked may hold the socket open behind the worker's end.
            self._pidfd = os.pidfd_open(self.pid)
            undo.pop_all()
        log = logging.getLogger(f"inferd.model.{self._name}")
        await loop.connect_read_pipe(lambda: OutputLines(log.info), output)
        await loop.create_unix_connection(lambda: self, sock=ours)
        loop.add_reader(self._pidfd, self._exited)
        self.send(start)

    def send(self, command: Command) -> None:
        """Tell the worker; what is said behind its end gets lost."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(command))

    def windows(self, slot: int) -> tuple[Window, Window]:
        """A slot's shared memory: what goes in, and what comes out."""
        windows = self._windows.get(slot)
        if windows is None:
            windows = self._windows[slot] = (
                Window(self._memory, slot, False),
                Window(self._memory, slot, True),
            )
        return windows

    def kill(self, why: InferdError) -> None:
        """End the process at once; `why` is what its end is then put down to."""
        if self._failure is None:
            self._failure = why
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    async def close(self) -> None:
        """Have the worker unload and end; by force after a while."""
        self._told_ended = _nobody
        self.send(Close())
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._over.wait()
        except TimeoutError:
            _log.warning("a worker did not end when told to", extra={"model": self._name})
        if self._transport is not None:
            self._transport.abort()
        await self._over.wait()

    def resident_bytes(self) -> int:
        """Memory that the process has in use; 0 when it has ended."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0
        return pages * _PAGE_BYTES

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected from the start."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand on what has arrived whole."""
        for event in self._frames.feed(data):
            match event:
                case Logged():
                    write_log(event)
                case Failed(error):
                    self._failure = error
                case _:
                    self._hear(event)

    def _unread(self, unread: Unread) -> Event:
        """A worker that says what is no event has been tampered with by its model."""
        why = BackendError(
            f"the worker of model '{self._name}' said what cannot be read: {unread.why}"
        )
        self.kill(why)
        return Failed(why)

    def connection_lost(self, exc: Exception | None) -> None:
        """The process has ended, or hears no more and will."""
        asyncio.get_running_loop().create_task(self._end())

    def _exited(self) -> None:
        """The process is gone; what it said last may still be on its way."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._transport is not None:
            loop.call_later(_LAST_WORDS_S, self._transport.abort)

    async def _end(self) -> None:
        assert self._process is not None
        code = await asyncio.to_thread(reap, self._process)
        self._windows.clear()
        os.close(self._memory)
        why = self._failure or BackendError(
            f"the worker process of model '{self._name}' ended: {ending(code)}"
        )
        self._over.set()
        self._told_ended(why)


CLOSE_S: Final = 10.0
"""How long a model may take to unload."""

_LAST_WORDS_S: Final = 0.2
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def _nobody(why: InferdError) -> None:
    """Nobody wants to know of the end of a worker that was told to end."""
