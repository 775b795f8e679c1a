"""The instances of one model version, and the choice of where each batch runs.

A batch that takes some tens of microseconds costs less run on the event loop's thread than handed
to another and back; one that takes longer would hold every other request up. So the pool measures
and chooses: short ones inline, the rest on a thread for each instance.

An instance may come with lanes: narrow ones that together use its cores. A lone batch is answered
soonest by all cores; where several wait, one batch for each lane gets more done, since no core
waits for another between operators. The two never run at the same time.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence

from inferd.backends.base import ModelInstance
from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.batching.estimate import RunTimeEstimate
from inferd.batching.queue import QueuedRequest
from inferd.errors import BackendError, InferdError
from inferd.types.tensor import Array

Done = Callable[[Batch, BatchResult], None]

INLINE_LIMIT_NS = 500_000
"""Longest predicted run that may hold the event loop."""

ENOUGH_NS = 20_000_000
"""A batch that runs for so long has made what a batch costs besides running invisible."""

AHEAD_LIMIT_NS = 5_000_000
"""While a batch runs for less, the next full one is handed over already: a thread that waits to be
told takes some hundred microseconds. For longer ones that is nothing, and until then who waits may
still leave."""

HELD_LIMIT_NS = 50_000_000
"""A run that held it for longer than this was the model's last."""

_clock_ns = time.perf_counter_ns


class InstancePool:
    """Runs batches on whichever instance is free; a BatchRunner."""

    restarts = 0
    concurrency = 1

    def __init__(
        self,
        instances: list[ModelInstance],
        loop: asyncio.AbstractEventLoop,
        name: str,
        estimate: RunTimeEstimate,
        steady: bool = True,
        lanes: Sequence[ModelInstance] = (),
        lane_estimate: RunTimeEstimate | None = None,
    ) -> None:
        self._instances = instances
        self._free = list(instances)
        self._lanes = list(lanes)
        self._free_lanes = list(lanes)
        self._lane_estimate = lane_estimate or RunTimeEstimate()
        self._loop = loop
        self._name = name
        self._estimate = estimate
        self._steady = steady
        self._inline = steady
        self._threads: dict[int, _InstanceThread] = {}

    def available(self) -> bool:
        """Whether an instance is free, or a lane where lanes run."""
        return bool(self._free) and (bool(self._free_lanes) or not self._lanes)

    def available_ahead(self, rows: int) -> bool:
        """Whether a full batch may wait where one runs; see BatchRunner."""
        if not self._steady:  # what runs may take any time
            return False
        estimate = self._lane_estimate if self._lanes else self._estimate
        return estimate.predict(rows) <= AHEAD_LIMIT_NS and self._first_to_end() is not None

    def _first_to_end(self) -> ModelInstance | None:
        """One that is busy with its only batch. Where there are lanes, it is one of them: all cores
        together would not become free for them otherwise."""
        for instance in self._lanes or self._instances:
            thread = self._threads.get(id(instance))
            if thread is not None and thread.pending == 1:
                return instance
        return None

    def enough(self, waiting: int, first: int = 1) -> int:
        """How many of `waiting` rows the next batch should take; see BatchRunner."""
        if not self._steady or self._estimate.predict(waiting) <= INLINE_LIMIT_NS:
            return 0
        if not self._lanes:
            return self._estimate.enough_rows(ENOUGH_NS, first) or 0
        enough = self._lane_estimate.enough_rows(ENOUGH_NS, first)
        if not self._free_lanes:  # what goes ahead is for one of them
            return enough or 0
        share = -(-waiting // len(self._free_lanes))
        together_ns = self._estimate.predict(waiting)
        if self._all_free() and together_ns <= self._lane_estimate.predict(share):
            return 0
        return min(share, enough or share)

    def run(self, batch: Batch, done: Done, alone: bool = True) -> None:
        """Run a batch on a free instance or lane, or behind another; see BatchRunner."""
        if not self.available():
            instance = self._first_to_end()
            assert instance is not None
            self._hand_over(instance, batch, done)
            return
        if self._lanes and not (
            alone
            and self._all_free()
            and self._estimate.predict(batch.rows) <= self._lane_estimate.predict(batch.rows)
        ):
            self._hand_over(self._free_lanes.pop(), batch, done)
            return
        instance = self._free.pop()
        if self._inline and self._estimate.predict(batch.rows) <= INLINE_LIMIT_NS:
            result = merge_and_execute(instance, batch)
            self._check_held(result)
            self._release(instance, batch, result)
            done(batch, result)
            return
        self._hand_over(instance, batch, done)

    def _hand_over(self, instance: ModelInstance, batch: Batch, done: Done) -> None:
        thread = self._threads.get(id(instance))
        if thread is None:
            thread = self._threads[id(instance)] = _InstanceThread(instance, self._name)
        thread.pending += 1
        thread.jobs.put((batch, done, self))

    def runs_now(self, rows: int) -> bool:
        """Whether an instance is free and a batch of `rows` may hold the loop."""
        return self._inline and self.available() and self._estimate.predict(rows) <= INLINE_LIMIT_NS

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        """Run merged inputs before returning; None where `runs_now` says no."""
        if not self.runs_now(rows):
            return None
        start_ns = _clock_ns()
        result = execute(self._free[-1], inputs, start_ns)
        self._check_held(result)
        if result.error is None:
            self._estimate.observe(rows, result.infer_ns)
        return result

    def finish(
        self, instance: ModelInstance, batch: Batch, result: BatchResult, done: Done
    ) -> None:
        """Called by an instance's thread: answer on the loop's thread."""
        try:
            self._loop.call_soon_threadsafe(self._finish, instance, batch, result, done)
        except RuntimeError:  # the loop has been closed, by whoever answered in its place
            return

    @property
    def trouble(self) -> str:
        """An instance in this process is always there."""
        return ""

    def attach(
        self, look: Callable[[], None], fail: Callable[[InferdError], None],
        waits: Callable[[], bool],
    ) -> None:  # fmt: skip
        """What runs here is always there."""

    def took(self, item: QueuedRequest, parts: int) -> None:
        """What runs here does not stream."""

    def cancelled(self, item: QueuedRequest) -> None:
        """What runs here cannot be stopped; see BatchRunner."""

    def drain_rate(self) -> float:
        """Rows a second when every instance is busy; 0 while unknown."""
        rows = 1 << 5
        if self._lanes:
            predicted, count = self._lane_estimate.predict(rows), len(self._lanes)
        else:
            predicted, count = self._estimate.predict(rows), len(self._instances)
        if predicted == float("inf") or predicted <= 0:
            return 0.0
        return rows * count * 1e9 / predicted

    def close(self) -> None:
        """End the threads and close the instances; blocks until runs in flight end."""
        for thread in self._threads.values():
            thread.jobs.put(None)
        for thread in self._threads.values():
            thread.join()
        for instance in (*self._instances, *self._lanes):
            instance.close()
        self._instances.clear()
        self._lanes.clear()
        self._free.clear()
        self._free_lanes.clear()

    def _all_free(self) -> bool:
        return len(self._free_lanes) == len(self._lanes) and len(self._free) == len(self._instances)

    def _check_held(self, result: BatchResult) -> None:
        """A model that once held the loop for long does not get it again."""
        if result.input_ns + result.infer_ns > HELD_LIMIT_NS:
            self._inline = False

    def _finish(
        self, instance: ModelInstance, batch: Batch, result: BatchResult, done: Done
    ) -> None:
        self._threads[id(instance)].pending -= 1
        self._release(instance, batch, result)
        done(batch, result)

    def _release(self, instance: ModelInstance, batch: Batch, result: BatchResult) -> None:
        lane = instance in self._lanes
        thread = self._threads.get(id(instance))
        if self._instances and not (thread and thread.pending):  # not closed meanwhile
            (self._free_lanes if lane else self._free).append(instance)
        if result.error is None:
            (self._lane_estimate if lane else self._estimate).observe(
                batch.rows, result.input_ns + result.infer_ns
            )


class _InstanceThread(threading.Thread):
    """Runs one instance's batches one after the other until it is handed None."""

    def __init__(self, instance: ModelInstance, name: str) -> None:
        super().__init__(name=f"inferd-{name}", daemon=True)
        self.jobs: queue.SimpleQueue[tuple[Batch, Done, InstancePool] | None] = queue.SimpleQueue()
        self.pending = 0
        """Batches that it has and has not answered; the loop's to count."""
        self._instance = instance
        self.start()

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            batch, done, pool = job
            pool.finish(self._instance, batch, merge_and_execute(self._instance, batch), done)
            del job, batch, done, pool


def merge_and_execute(instance: ModelInstance, batch: Batch) -> BatchResult:
    """Merge, run, time."""
    start_ns = batch.start_ns = _clock_ns()
    try:
        inputs = batch.merge()
    except Exception as error:  # memory, most likely: smaller batches may still do
        wrapped = BackendError(f"cannot merge a batch of {batch.rows} rows: {error}")
        return BatchResult(None, wrapped, _clock_ns() - start_ns, 0)
    return execute(instance, inputs, start_ns)


def execute(instance: ModelInstance, inputs: list[Array], start_ns: int) -> BatchResult:
    """Run, time. What a framework raises becomes the result's error, never an exception."""
    merged_ns = _clock_ns()
    try:
        outputs = instance.run(inputs)
    except InferdError as error:
        return BatchResult(None, error, merged_ns - start_ns, _clock_ns() - merged_ns)
    except Exception as error:
        wrapped = BackendError(f"{type(error).__name__}: {error}")
        wrapped.__cause__ = error
        return BatchResult(None, wrapped, merged_ns - start_ns, _clock_ns() - merged_ns)
    return BatchResult(outputs, None, merged_ns - start_ns, _clock_ns() - merged_ns)
