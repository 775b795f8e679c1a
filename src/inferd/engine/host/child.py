"""The engine's process: `python -m inferd.engine.host.child FD`, started by `process.py`.

It has a socket and nothing else to do with its server: commands come by it, events and the lines of
its log leave by it, and when it is closed the process ends, whatever it is at. SIGINT and SIGTERM
are blocked from birth. It refuses to know what an engine does (`loop.py`).
"""

import logging
import os
import socket
import sys
import threading
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import NoReturn

from inferd.engine.host.loop import EngineLoop
from inferd.engine.host.messages import ChildCommand, ChildEvent, Command, Start
from inferd.engine.loading import load_core
from inferd.processes.frames import Frames, frame
from inferd.processes.log_lines import LogSender

_RECEIVED_BYTES = 1 << 16


def main() -> None:
    """Live one engine's life."""
    link = _Link(socket.socket(fileno=int(sys.argv[1])))
    thread = threading.Thread(target=link.listen, name="inferd-commands", daemon=True)
    thread.start()
    start = link.started.get()
    root = logging.getLogger()
    root.addHandler(LogSender(link.tell))
    logging.getLogger("inferd").setLevel(start.log_level)
    load = partial(load_core, Path(start.folder), start.config)
    EngineLoop(load, link.commands, link.tell).run()


class _Link:
    """The process's end of the socket."""

    def __init__(self, socket: socket.socket) -> None:
        self.started: SimpleQueue[Start] = SimpleQueue()
        self.commands: SimpleQueue[Command] = SimpleQueue()
        self._socket = socket
        self._lock = threading.Lock()

    def tell(self, event: ChildEvent) -> None:
        """Send an event; from any thread."""
        data = frame(event)
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:
            _leave()

    def listen(self) -> NoReturn:
        """Take commands in for as long as there is a server."""
        frames: Frames[ChildCommand] = Frames(ChildCommand)
        while data := self._received():
            for command in frames.feed(data):
                if isinstance(command, Start):
                    self.started.put(command)
                else:
                    self.commands.put(command)
        _leave()

    def _received(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVED_BYTES)
        except OSError:
            return b""


def _leave() -> NoReturn:
    """The server has gone or wants this engine no more: a load is not finished, nor a step."""
    os._exit(0)


if __name__ == "__main__":
    main()
