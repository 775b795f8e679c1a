"""The jobs of a worker: taken in on its listening thread, run on its main thread, told of as they
end. One after the other for a synchronous model, as many at a time as come for one that is
asynchronous: the server knows how many that may be.
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

import msgspec

from inferd.errors import BackendError, InferdError, RequestCancelled
from inferd.types.tensor import Array
from inferd.workers.desk import Desk
from inferd.workers.messages import Done, Event, Run
from inferd.workers.runtime import Result, Runtime

_log = logging.getLogger("inferd.worker")

PARTS_AHEAD = 32
"""Parts of a stream that may be on their way before the server has taken any..."""

PART_BYTES = 64 * 1024
"""...if they are no larger than this; a larger one counts as several."""


def cost_of(arrays: list[Array]) -> int:
    """As how many parts one counts; no more than may go out at all."""
    return min(PARTS_AHEAD, 1 + sum(array.nbytes for array in arrays) // PART_BYTES)


class Jobs(Protocol):
    """All but `work` may be called from any thread."""

    def __init__(self, runtime: Runtime, memory: int, tell: Callable[[Event], None]) -> None: ...

    def add(self, run: Run) -> None:
        """Take a job in."""

    def cancel(self, job: int, request: int | None = None) -> None:
        """Nobody waits any more for a job, or for one request of one that looks at requests."""

    def took(self, job: int, parts: int) -> None:
        """The server has taken parts of a stream."""

    def stop(self) -> None:
        """Have `work` return; the server has waited for the jobs that it wants."""

    def work(self) -> None:
        """Run jobs until told to stop."""


class SyncJobs:
    """Jobs of a model that runs one at a time."""

    def __init__(self, runtime: Runtime, memory: int, tell: Callable[[Event], None]) -> None:
        self._runtime = runtime
        self._desk = Desk(runtime, memory)
        self._tell = tell
        self._waiting: SimpleQueue[Run | None] = SimpleQueue()
        self._streams: dict[int, _Stream] = {}

    def add(self, run: Run) -> None:
        """See Jobs."""
        if self._runtime.streams and run.method == "predict":
            self._streams[run.job] = _Stream()
        self._waiting.put(run)

    def cancel(self, job: int, request: int | None = None) -> None:
        """See Jobs; what is not a stream runs on, for nobody."""
        stream = self._streams.get(job)
        if stream is not None:
            stream.cancelled = True
            stream.credit.release(PARTS_AHEAD)

    def took(self, job: int, parts: int) -> None:
        """See Jobs."""
        stream = self._streams.get(job)
        if stream is not None:
            for _ in range(min(parts, len(stream.costs))):
                stream.credit.release(stream.costs.popleft())

    def stop(self) -> None:
        """See Jobs."""
        self._waiting.put(None)

    def work(self) -> None:
        """See Jobs."""
        while (run := self._waiting.get()) is not None:
            result: Result
            try:
                result = self._ran(run)
            except BaseException as error:
                result = [failure_of(error)] * len(run.rows)
            done = _done(self._desk, run, result)
            del result
            tell_end(self._tell, run, noted(done, self._desk.kept(run)))

    def _ran(self, run: Run) -> Result:
        stream = self._streams.get(run.job)
        if stream is None:
            return self._runtime.run(self._desk.opened(run))
        try:
            with contextlib.closing(self._runtime.stream(self._desk.opened(run))) as parts:
                for arrays in parts:
                    cost = cost_of(arrays)
                    for _ in range(cost):
                        stream.credit.acquire()
                    if stream.cancelled:
                        break
                    stream.costs.append(cost)
                    self._tell(self._desk.part(run, arrays))
        finally:
            del self._streams[run.job]
        return [[]]


class _Stream:
    """A stream that runs or will; `credit` is how many parts may go out, `costs` what those cost
    that the server has not taken."""

    def __init__(self) -> None:
        self.cancelled = False
        self.costs: deque[int] = deque()
        self.credit = threading.Semaphore(PARTS_AHEAD)


class AsyncJobs:
    """Jobs of a model that is asynchronous: each is a task of one event loop."""

    def __init__(self, runtime: Runtime, memory: int, tell: Callable[[Event], None]) -> None:
        self._runtime = runtime
        self._desk = Desk(runtime, memory)
        self._tell = tell
        assert runtime.loop is not None
        self._loop = runtime.loop
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._credits: dict[int, tuple[asyncio.Semaphore, deque[int]]] = {}

    def add(self, run: Run) -> None:
        """See Jobs."""
        self._loop.call_soon_threadsafe(self._start, run)

    def cancel(self, job: int, request: int | None = None) -> None:
        """See Jobs."""
        self._loop.call_soon_threadsafe(self._cancel, job)

    def took(self, job: int, parts: int) -> None:
        """See Jobs."""
        self._loop.call_soon_threadsafe(self._credit, job, parts)

    def stop(self) -> None:
        """See Jobs; a job that runs is left as it is."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def work(self) -> None:
        """See Jobs."""
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _start(self, run: Run) -> None:
        self._tasks[run.job] = self._loop.create_task(self._run(run))

    def _cancel(self, job: int) -> None:
        if job in self._tasks:
            # At the end of the turn: a task that is cancelled before its first step never takes it,
            # and its end would not be told.
            self._loop.call_soon(self._tasks[job].cancel)

    def _credit(self, job: int, parts: int) -> None:
        if job in self._credits:
            credit, costs = self._credits[job]
            for _ in range(min(parts, len(costs))):
                for _ in range(costs.popleft()):
                    credit.release()

    async def _run(self, run: Run) -> None:
        result: Result
        try:
            result = await self._ran(run)
        except BaseException as error:
            result = [failure_of(error)] * len(run.rows)
        del self._tasks[run.job]
        done = _done(self._desk, run, result)
        del result
        tell_end(self._tell, run, noted(done, self._desk.kept(run)))

    async def _ran(self, run: Run) -> Result:
        if not self._runtime.streams or run.method != "predict":
            return await self._runtime.arun(self._desk.opened(run))
        credit, costs = self._credits[run.job] = asyncio.Semaphore(PARTS_AHEAD), deque[int]()
        try:
            async with contextlib.aclosing(self._runtime.astream(self._desk.opened(run))) as parts:
                async for arrays in parts:
                    cost = cost_of(arrays)
                    for _ in range(cost):
                        await credit.acquire()
                    costs.append(cost)
                    self._tell(self._desk.part(run, arrays))
        finally:
            del self._credits[run.job]
        return [[]]


def _done(desk: Desk, run: Run, result: Result) -> Done:
    """What is told, also where what came cannot be laid out."""
    try:
        return desk.done(run, result)
    except Exception as error:
        return desk.done(run, [failure_of(error)] * len(run.rows))


def noted(done: Done, kept: bool) -> Done:
    """The end of a job, with whether its inputs are still held."""
    return msgspec.structs.replace(done, kept=True) if kept else done


def tell_end(tell: Callable[[Event], None], run: Run, done: Done) -> None:
    """Tell the end of a job, also where a model has put what does not cross into its error."""
    try:
        tell(done)
    except Exception as error:
        failure = BackendError(f"what the model raised cannot be told: {error}")
        errors: dict[int, InferdError] = dict.fromkeys(range(len(run.rows)), failure)
        tell(Done(run.job, [], errors, kept=done.kept))


def failure_of(error: BaseException) -> InferdError:
    """What a request is told of what was raised, without the arrays that a traceback holds."""
    if isinstance(error, InferdError):
        failure: InferdError = error
    elif isinstance(error, asyncio.CancelledError):
        failure = RequestCancelled("the request was cancelled")
    else:
        _log.error("a model raised", exc_info=error)
        failure = BackendError(f"{type(error).__name__}: {error}")
    failure.__traceback__ = failure.__cause__ = failure.__context__ = None
    return failure
