"""Jobs of a worker, run here: each is told to have ended, whenever nobody waits for it any more."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import numpy as np
import pytest

from inferd.errors import BackendError
from inferd.processes.frames import frame
from inferd.types.tensor import Array
from inferd.workers.jobs import PARTS_AHEAD, AsyncJobs, SyncJobs, cost_of
from inferd.workers.memory import create_memory
from inferd.workers.messages import Done, Event, Loaded, Run, WorkerTerms
from inferd.workers.runtime import Job, Result


class FakeRuntime:
    """A model without inputs and outputs; what a run does is up to the test."""

    def __init__(
        self, run: Callable[[], Result] = list, parts: int = 0,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        self.is_async = loop is not None
        self.streams = parts > 0
        self.loop = loop
        self._run = run
        self._parts = parts

    def loaded(self) -> Loaded:
        return Loaded("fake", "fake", 0, (), (), (), False, WorkerTerms())

    def run(self, job: Job) -> Result:
        return self._run()

    async def arun(self, job: Job) -> Result:
        return self._run()

    def stream(self, job: Job) -> Generator[list[Array], None, None]:
        for _ in range(self._parts):
            yield []

    async def astream(self, job: Job) -> AsyncGenerator[list[Array], None]:
        for _ in range(self._parts):
            yield []

    def asgi(self) -> Any:
        return None

    def close(self) -> None:
        pass


def job(number: int) -> Run:
    return Run(number, 0, "predict", [], [1], [""])


@pytest.fixture
def memory() -> Iterator[int]:
    fd = create_memory()
    yield fd
    os.close(fd)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()
    asyncio.set_event_loop(None)


def test_a_stream_that_is_left_before_it_begins_tells_nothing_but_its_end(memory: int) -> None:
    told: list[Event] = []
    jobs = SyncJobs(FakeRuntime(parts=PARTS_AHEAD), memory, told.append)
    jobs.add(job(1))
    jobs.cancel(1)
    jobs.stop()
    jobs.work()
    assert [type(event) for event in told] == [Done]


@pytest.mark.parametrize(
    ("sizes", "cost"),
    [((), 1), ((0,), 1), ((65_535,), 1), ((65_536,), 2), ((40_000, 40_000), 2), ((10**9,), 32)],
)
def test_a_large_part_counts_as_several(sizes: tuple[int, ...], cost: int) -> None:
    assert cost_of([np.empty(size, np.uint8) for size in sizes]) == cost


def test_a_task_that_is_cancelled_before_its_first_step_is_told_to_have_ended(
    memory: int, loop: asyncio.AbstractEventLoop
) -> None:
    ended: list[int] = []

    def tell(event: Event) -> None:
        assert isinstance(event, Done)
        ended.append(event.job)
        if event.job == 2:
            jobs.stop()

    jobs = AsyncJobs(FakeRuntime(loop=loop), memory, tell)
    jobs.add(job(1))
    jobs.cancel(1)
    jobs.add(job(2))
    jobs.work()
    assert ended == [1, 2]


class Odd(BackendError):
    """What a model's author may raise."""

    def __init__(self) -> None:
        super().__init__("odd")
        self.held = object()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_that_does_not_cross_is_told_as_one_that_does(
    memory: int, loop: asyncio.AbstractEventLoop, asynchronous: bool
) -> None:
    told: list[Event] = []

    def tell(event: Event) -> None:
        frame(event)
        told.append(event)
        jobs.stop()

    def fails() -> Result:
        raise Odd

    kind = AsyncJobs if asynchronous else SyncJobs
    jobs = kind(FakeRuntime(fails, loop=loop if asynchronous else None), memory, tell)
    jobs.add(job(1))
    if asynchronous:
        loop.call_later(20, jobs.stop)
    jobs.work()
    (done,) = told
    assert isinstance(done, Done)
    assert "object does not cross" in str(done.errors[0])
