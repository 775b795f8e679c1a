"""Stand-ins for what tests must hold in their own hands: the clock of a loop, whatever runs
batches, a model's instance, a socket. Each is a real class that does what its protocol says."""

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np

from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.batching.queue import QueuedRequest
from inferd.errors import BackendError, InferdError
from inferd.observability.tracing import Trace
from inferd.types.tensor import Array

T = TypeVar("T")


class ClockedLoop(asyncio.SelectorEventLoop):
    """A real event loop whose clock can be put forward, so that nobody has to wait."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and all that was due by then happen."""
        self.ahead_s += seconds
        await turns(3)


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a ClockedLoop of its own; what a callback raises fails it, unless the
    test has a handler of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        raised: list[BaseException] = []

        def hear(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            loop.default_exception_handler(context)
            if "handle" in context and "exception" in context:
                raised.append(context["exception"])

        with asyncio.Runner(loop_factory=ClockedLoop) as runner:
            runner.get_loop().set_exception_handler(hear)
            runner.run(test(*args, **kwargs))
        if raised:
            raise raised[0]

    return run


def clock() -> ClockedLoop:
    """The loop that an `on_loop` test runs on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ClockedLoop)
    return loop


async def turns(count: int = 1) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


def doubled(inputs: list[Array]) -> list[Array]:
    """What fake models compute where a test does not say."""
    return [array * 2 for array in inputs]


class FakeBatchRunner:
    """A BatchRunner that ends a batch when it is told to; what fails is up to the test."""

    def __init__(self, instances: int = 1, compute: Callable[..., Any] = doubled) -> None:
        self.free = instances
        self.ahead = False
        self.compute = compute
        self.fails: Callable[[Batch], InferdError | None] = lambda batch: None
        self.running: list[tuple[Batch, Callable[[Batch, BatchResult], None]]] = []
        self.started: list[Batch] = []
        self.rate = 0.0
        self.worth = 0
        self.alone: list[bool] = []
        self.given_up: list[QueuedRequest] = []
        self.now_result: BatchResult | None = None
        self.now_calls: list[tuple[list[Array], int]] = []

    def available(self) -> bool:
        return self.free > 0

    def available_ahead(self, rows: int) -> bool:
        return self.ahead

    def enough(self, waiting: int, first: int = 1) -> int:
        return self.worth

    def run(
        self, batch: Batch, done: Callable[[Batch, BatchResult], None], alone: bool = True
    ) -> None:
        assert self.free > 0 or self.ahead, "a batch was started with no instance free"
        self.free -= 1
        self.started.append(batch)
        self.alone.append(alone)
        self.running.append((batch, done))

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        self.now_calls.append((inputs, rows))
        return self.now_result

    def cancelled(self, item: QueuedRequest) -> None:
        self.given_up.append(item)

    def drain_rate(self) -> float:
        return self.rate

    def finish(self, index: int = 0, outputs: list[Array] | None = None) -> None:
        """End a running batch: with these outputs, else as `fails` and `compute` say."""
        batch, done = self.running.pop(index)
        self.free += 1
        error = self.fails(batch)
        if error is None and outputs is None:
            outputs = self.compute(batch.merge())
        done(batch, BatchResult(None if error else outputs, error, 10, 20))

    def fail(self, message: str = "broken", index: int = 0) -> None:
        """End a running batch with an error."""
        batch, done = self.running.pop(index)
        self.free += 1
        done(batch, BatchResult(None, BackendError(message), 10, 20))

    async def finish_all(self) -> None:
        """End batches until none is left, whatever is started meanwhile."""
        await turns(2)
        while self.running:
            self.finish()
            await turns(2)


class FakeInstance:
    """A ModelInstance that remembers where it ran, and waits at its gate where it is shut."""

    def __init__(self, compute: Callable[[list[Array]], list[Array]] = doubled) -> None:
        self.compute = compute
        self.threads: list[threading.Thread] = []
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()

    def run(self, inputs: list[Array]) -> list[Array]:
        self.threads.append(threading.current_thread())
        assert self.gate.wait(10), "nobody opened the gate"
        return self.compute(inputs)

    def close(self) -> None:
        self.closed = True


class FakeTraceSink:
    """A TraceSink that keeps what it is given."""

    name = "here"

    def __init__(self) -> None:
        self.written: list[tuple[list[Trace], bool]] = []

    def write(self, traces: list[Trace], apart: bool) -> None:
        self.written.append((traces, apart))

    @property
    def traces(self) -> list[Trace]:
        """All of them."""
        return [trace for traces, _ in self.written for trace in traces]

    @property
    def ids(self) -> list[tuple[list[int], bool]]:
        """Their numbers, as they were written."""
        return [([trace.id for trace in traces], apart) for traces, apart in self.written]


class FakeTransport(asyncio.Transport):
    """A socket that keeps what is written to it."""

    def __init__(self, peer: object = ("10.0.0.7", 4321)) -> None:
        super().__init__({"peername": peer})
        self.sent = bytearray()
        self.reading = True
        self.closing = False
        self.aborted = False
        self.eof = False

    def write(self, data: bytes | bytearray | memoryview) -> None:  # type: ignore[override]
        assert not self.eof, "written after write_eof"
        self.sent += data

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def ended(self) -> bool:
        """Whether the client has been told that nothing more comes."""
        return self.closing or self.eof


def rows_of(*values: float) -> Array:
    """Rows of one float each."""
    return np.array(values, np.float32).reshape(-1, 1)
