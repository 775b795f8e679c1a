"""A worker's process: `python BOOT SOCKET MEMORY`, started by `process.py`.

It has a socket and a piece of shared memory and nothing else to do with its server. A thread takes
commands in, so that the end of the server is noticed whatever the model is at; jobs are run on the
main thread, which is where frameworks and signals want to be. It refuses to know what a model is
(`runtime.py`) and why jobs come (`serving/worker_pool.py`).
"""

import contextlib
import faulthandler
import logging
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import NoReturn

from inferd.errors import BackendError, InferdError, InvalidRequest
from inferd.processes.frames import Frames, Unread, frame
from inferd.processes.heap import keep_freed_memory
from inferd.processes.log_lines import LogSender
from inferd.workers.asking import Asking
from inferd.workers.jobs import AsyncJobs, Jobs, SyncJobs
from inferd.workers.messages import (
    Answer,
    Body,
    Cancel,
    Close,
    Command,
    Event,
    Failed,
    Left,
    Refused,
    Run,
    Start,
    Taken,
    Took,
    Visit,
)
from inferd.workers.runtime import BackendRuntime, Runtime, is_triton_model
from inferd.workers.visits import Visits, open_visits
from inferd.workers.warmup import warm_up

_RECEIVED_BYTES = 1 << 18
_FAILED = 1


def main() -> None:
    """Live one worker's life."""
    faulthandler.enable()
    keep_freed_memory()
    link = Link(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    listen = partial(_to_the_end, link.listen)
    threading.Thread(target=listen, name="inferd-commands", daemon=True).start()
    _to_the_end(partial(_live, link))


def _to_the_end(work: Callable[[], None]) -> None:
    """Do what a worker cannot be without: deaf or idle it would be there for ever, so it ends, and
    another is started."""
    try:
        work()
    except BaseException:
        traceback.print_exc()
        leave(_FAILED)


def _live(link: "Link") -> None:
    start = link.started.get()
    root = logging.getLogger()
    root.addHandler(LogSender(link.tell))
    logging.getLogger("inferd").setLevel(start.log_level)
    try:
        runtime = _opened(start, link.asking)
        warm_up(runtime, start)
        visits = open_visits(runtime, link.tell, start.model)
    except InferdError as error:
        link.tell(Failed(error))
        leave()
    except BaseException as error:  # a model's own code may raise anything, SystemExit too
        logging.getLogger(f"inferd.model.{start.model}").exception("loading raised")
        link.tell(Failed(BackendError(f"loading raised {type(error).__name__}: {error}")))
        leave()
    jobs = _jobs(runtime, link)
    link.give_jobs_to(jobs, visits)
    link.tell(runtime.loaded())
    jobs.work()
    if visits is not None:
        visits.close()
    runtime.close()
    leave()


def leave(status: int = 0) -> NoReturn:
    """End, whatever the model is at: what its threads and C libraries do on their way out is not
    waited for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the model may have closed it
            stream.flush()
    os._exit(status)


def _opened(start: Start, asking: Asking) -> Runtime:
    if start.backend == "python":
        if is_triton_model(start.path):
            from inferd.workers.triton.runtime import TritonRuntime

            return TritonRuntime(start, asking)
        from inferd.workers.python_runtime import PythonRuntime

        return PythonRuntime(start, asking)
    return BackendRuntime(start)


def _jobs(runtime: Runtime, link: "Link") -> Jobs:
    if type(runtime).__name__ == "TritonRuntime":
        from inferd.workers.triton.jobs import TritonJobs

        return TritonJobs(runtime, link.memory, link.tell)
    return (AsyncJobs if runtime.is_async else SyncJobs)(runtime, link.memory, link.tell)


class Link:
    """The process's end of the socket."""

    def __init__(self, socket: socket.socket, memory: int) -> None:
        self.started: SimpleQueue[Start] = SimpleQueue()
        self.memory = memory
        self.asking = Asking(self.tell)
        self._socket = socket
        # Telling may be interrupted by something that is let go of, and tells so itself.
        self._lock = threading.RLock()
        self._jobs: Jobs | None = None
        self._visits: Visits | None = None

    def give_jobs_to(self, jobs: Jobs, visits: Visits | None) -> None:
        """From now on commands are for these; before, none of them comes."""
        self._visits = visits
        self._jobs = jobs

    def tell(self, event: Event) -> None:
        """Send an event; from any thread."""
        data = frame(event)
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:
            leave()

    def listen(self) -> NoReturn:
        """Take commands in for as long as there is a server."""
        frames: Frames[Command | Unread] = Frames(Command, lambda unread: unread)
        while data := self._received():
            for command in frames.feed(data):
                self._take(command)
        leave()

    def _take(self, command: Command | Unread) -> None:
        if isinstance(command, Unread):
            self._refuse(command)
        elif isinstance(command, Start):
            self.started.put(command)
        elif isinstance(command, Answer):
            self.asking.answered(command)
        elif isinstance(command, Close) and self._jobs is None:
            leave()  # it is still loading
        elif isinstance(command, Visit | Body | Taken | Left):
            if self._visits is not None:
                self._visits.take(command)
        elif self._jobs is not None:
            match command:
                case Run():
                    self._jobs.add(command)
                case Cancel(job, request):
                    self._jobs.cancel(job, request)
                case Took(job, parts):
                    self._jobs.took(job, parts)
                case Close():
                    self._jobs.stop()

    def _refuse(self, unread: Unread) -> None:
        """Somebody waits for what cannot be read: he is told."""
        error = InvalidRequest(f"a worker cannot take what it is told: {unread.why}")
        if unread.name == Run.__name__:
            self.tell(Refused(unread.number, error))
        elif unread.name == Answer.__name__:
            self.asking.answered(Answer(unread.number, {}, error))
        else:
            raise error

    def _received(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVED_BYTES)
        except OSError:
            return b""


if __name__ == "__main__":
    main()
