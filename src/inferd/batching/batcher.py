"""The DynamicBatcher: takes requests in, asks the policy, hands batches to whatever runs them, and
answers each request exactly once.

All of it runs on the event loop's thread. What it refuses to know: which model this is, how a batch
is run (`BatchRunner`), and which protocol asked.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from inferd.batching.base import Batcher
from inferd.batching.batch import Batch, LaidOutBatch
from inferd.batching.layout import BatchLayout
from inferd.batching.levels import LevelledGroup, LevelledQueue, Levels
from inferd.batching.policy import BatchPolicy, CloseReason, Wait
from inferd.batching.queue import (
    DONE,
    QUEUED,
    RUNNING,
    QueuedRequest,
    QueueOptions,
    RequestGroup,
    RequestQueue,
)
from inferd.errors import BackendError, InferdError, Overloaded
from inferd.observability.statistics import ModelStatistics
from inferd.types.inference import Parameters
from inferd.types.tensor import Array, TensorSpec

_clock_ns = time.perf_counter_ns


@dataclass(slots=True)
class BatchResult:
    """What came of a batch: outputs in the model's order, or the error; times in nanoseconds.

    `errors` are those of some of its requests, by their place: then outputs are those of the rest,
    or `each`, request by request, where they cannot be merged, None for an output that one does not
    have. `parameters` are those of answers that have any, by the places of their requests among
    those that did not fail. `again` says that nobody knows which request is to blame for the error:
    each is to be run again by itself, secluded. `reschedule` are the places of requests that are
    not done: their model wants to see them once more (iterative sequences). Of these, too, there
    are no outputs.
    """

    outputs: list[Array] | None
    error: InferdError | None
    input_ns: int
    infer_ns: int
    errors: dict[int, InferdError] = field(default_factory=dict)
    each: Sequence[Sequence[Array | None]] | None = None
    again: bool = False
    parameters: dict[int, Parameters] | None = None
    reschedule: tuple[int, ...] = ()


class BatchRunner(Protocol):
    """Whatever runs batches. Called on the loop's thread only."""

    def available(self) -> bool:
        """Whether a batch handed over now starts at once."""

    def available_ahead(self, rows: int) -> bool:
        """Whether a full batch of `rows` may be handed over to wait behind one that runs."""

    def enough(self, waiting: int, first: int) -> int:
        """How many of `waiting` rows are worth running together now, the next request's `first`
        among them; 0 for any number."""

    def run(
        self, batch: Batch, done: Callable[[Batch, BatchResult], None], alone: bool = True
    ) -> None:
        """Run a batch and call `done` on the loop's thread, perhaps before returning; `alone` says
        that nothing else waits."""

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        """Run merged inputs before returning; None when that is not possible or would take long."""

    def cancelled(self, item: QueuedRequest) -> None:
        """Nobody waits any more for a request that runs."""

    def drain_rate(self) -> float:
        """Rows a second that it gets through when busy; 0 while unknown."""


class DynamicBatcher(Batcher):
    """One queue in front of one BatchRunner.

    With `levels`, `options` are those of their default one.
    """

    def __init__(
        self,
        policy: BatchPolicy,
        options: QueueOptions,
        outputs: tuple[TensorSpec, ...],
        runner: BatchRunner,
        statistics: ModelStatistics,
        loop: asyncio.AbstractEventLoop,
        name: str,
        version: str,
        levels: Levels | None = None,
        layout: BatchLayout | None = None,
    ) -> None:
        super().__init__(outputs, statistics, loop, name, version, options.preserve_ordering)
        self.policy = policy
        self.options = options
        self.levels = levels
        self.queue: RequestQueue | LevelledQueue = (
            RequestQueue(options.max_queue_size) if levels is None else LevelledQueue(levels)
        )
        self._runner = runner
        self._dispatch_due = False
        self._delay_timer: asyncio.TimerHandle | None = None
        self._retries: deque[Batch] = deque()
        self._batch = Batch if layout is None else partial(LaidOutBatch, layout)
        self.takes_riders = (
            policy.max_batch_size > 0
            and not policy.explicit
            and not options.default_timeout_us
            and not options.preserve_ordering
            and (layout is None or layout.by_rows)
        )
        """Whether requests that came together may wait as one."""
        self._may_skip_queue = self.takes_riders and layout is None

    # -- in --------------------------------------------------------------------------------------

    def enqueue(self, item: QueuedRequest) -> None:
        """Queue a request; raises Overloaded at once when the queue is full.

        What comes in one turn of the loop is looked at together at the end of the turn.
        """
        request = item.request
        try:
            self.queue.push(item)
        except Overloaded as error:
            if item.riders == 1:
                self._statistics.failed("REJECTED", _clock_ns() - item.arrival_ns)
            error.retry_after_s = self._retry_after_s()
            raise
        self.in_flight += item.riders
        item.on_cancel = self.cancel
        if self._order is not None:
            self._order.append(item)
        options = self.options if self.levels is None else self.levels.of(request.priority)
        timeout_us = options.timeout_us(request.timeout_us)
        if timeout_us or request.deadline_ns:
            self._set_timers(item, timeout_us, request.deadline_ns)
        if not self._dispatch_due:
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def run_now(self, inputs: list[Array], rows: int, arrival_ns: int) -> list[Array] | None:
        """Run `rows` requests of one row each, which came together and are merged already.

        Returns the merged outputs, or None, with nothing done, when they have to queue: others
        wait, no instance is free, a batch takes long, the policy wants a say, or the run failed
        and each must be tried by itself.
        """
        if not self.runs_now:
            return None
        start_ns = _clock_ns()
        result = self._runner.run_now(inputs, rows)
        if result is None or result.outputs is None:
            return None
        if any(output.shape[:1] != (rows,) for output in result.outputs):
            return None
        end_ns = _clock_ns()
        statistics = self._statistics
        full = rows == self.policy.max_batch_size
        statistics.batch_closed("full" if full else "available")
        statistics.executed(
            rows, rows, result.input_ns, result.infer_ns, 0, int(time.time() * 1000)
        )
        statistics.succeeded_at_once(rows, arrival_ns, start_ns, end_ns)
        return result.outputs

    @property
    def runs_now(self) -> bool:
        """See Batcher; `run_now` would ask the runner."""
        return self._may_skip_queue and not self.queue.size and not self._retries

    def look(self) -> None:
        """An instance may be free that was not: look at the queue at the end of the turn."""
        if not self._dispatch_due and (self.queue.size or self._retries):
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def waits(self) -> bool:
        """Whether there is anything to run."""
        return bool(self.queue.size or self._retries)

    def fail_waiting(self, error: InferdError) -> None:
        """No instance will be there soon: what waits is told so."""
        retried = [item for batch in self._retries for item in batch.items]
        self._retries.clear()
        for item in (*retried, *self.queue.clear()):
            if item.stage is not DONE:
                self._end(item, error, "BACKEND")

    def queue_depths(self) -> dict[int, int]:
        """Requests that wait, by priority; nothing without priorities."""
        return self.queue.depths() if isinstance(self.queue, LevelledQueue) else {}

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self.queue.size

    @property
    def _busy(self) -> bool:
        """Whether there is anything to do; what is to be run again for nobody is not."""
        return bool(self.queue.size or self.running) or any(b.wanted for b in self._retries)

    def _withdraw(self, item: QueuedRequest) -> None:
        self.queue.remove(item)

    def _forsake(self, item: QueuedRequest) -> None:
        self._runner.cancelled(item)

    def _retry_after_s(self) -> float:
        rate = self._runner.drain_rate()
        return min(max(self.queue.rows / rate, 1.0), 60.0) if rate else 1.0

    # -- timers ----------------------------------------------------------------------------------

    def _expire_queued(self, item: QueuedRequest) -> None:
        queue, levels = self.queue, self.levels
        if (
            item.stage is QUEUED
            and isinstance(queue, LevelledQueue)
            and levels
            and levels.of(item.request.priority).delay
        ):
            self._statistics.delayed += 1
            queue.delay(item)
        else:
            super()._expire_queued(item)

    # -- dispatch --------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        self._dispatch_due = False
        if self._delay_timer is not None:
            self._delay_timer.cancel()
            self._delay_timer = None
        runner = self._runner
        while self._retries and runner.available():
            again = self._retries.popleft()
            if again.wanted:
                self._start(again, "retry")
        while self.queue.size and (runner.available() or self._may_go_ahead()):
            batch, reason = self._next_batch()
            if batch is None:
                return
            self._start(batch, reason)

    def _may_go_ahead(self) -> bool:
        """Whether what came first is a batch that waiting would not make fuller, and there is where
        to put it; not where something more urgent may still come."""
        if self.levels is not None:
            return False
        group = min(self.queue.groups.values(), key=_turn)
        limit = self.policy.limit(self._runner.enough(self.queue.rows, next(group.sizes())))
        return group.rows >= limit and self._runner.available_ahead(limit)

    def _next_batch(self) -> tuple[Batch | None, CloseReason]:
        """The batch to run now, taken out of the queue; None sets a timer for the next look."""
        groups: Mapping[Hashable, RequestGroup | LevelledGroup] = self.queue.groups
        others_wait = len(groups) > 1
        order = sorted(groups.items(), key=_by_turn) if others_wait else groups.items()
        now_ns = _clock_ns()
        until_ns = 0
        for key, group in order:
            enough = self._runner.enough(self.queue.rows, next(group.sizes()))
            decision = self.policy.decide(
                group.sizes(), group.oldest_arrival_ns, now_ns, others_wait, enough
            )
            if not isinstance(decision, Wait):
                items = self.queue.take(key, decision.count)
                return self._batch(items, sum([item.rows for item in items])), decision.reason
            until_ns = min(until_ns or decision.until_ns, decision.until_ns)
        delay_s = max(0.0, (until_ns - now_ns) / 1e9)
        self._delay_timer = self._loop.call_later(delay_s, self._dispatch)
        return None, "delay"

    def _start(self, batch: Batch, reason: CloseReason) -> None:
        batch.start_ns = _clock_ns()
        for item in batch.items:
            if item.stage is QUEUED:
                item.stage = RUNNING
        self._statistics.batch_closed(reason)
        if batch.items[0].on_part is not None:
            for item in batch.items:
                item.part_ns = batch.start_ns
            batch.on_part = partial(self._part, batch)
        self.running += 1
        self._runner.run(batch, self._finished, not (self.queue.size or self._retries))

    # -- out -------------------------------------------------------------------------------------

    def _finished(self, batch: Batch, result: BatchResult) -> None:
        self.running -= 1
        split_ns = _clock_ns()
        if result.reschedule:
            stray = BackendError("only a request of an iterative sequence can be run again")
            result.errors.update(dict.fromkeys(result.reschedule, stray))
        if result.error is None and result.errors:
            batch = self._without_failed(batch, result.errors)
        parts: Sequence[Sequence[Array | None]] = []
        error = result.error
        if error is None:
            parts, error = self._split(batch, result.outputs, result.each)
        if error is not None:
            self._failed(batch, error, result.again)
        else:
            self._succeeded(
                batch, parts, result.input_ns, result.infer_ns, split_ns, result.parameters
            )
        self.look()
        self._rest()

    def _failed(self, batch: Batch, error: InferdError, again: bool) -> None:
        """One bad request must not fail its neighbours: halve the batch until it stands alone."""
        waiting = [item for item in batch.items if item.stage is not DONE]
        if again:
            # Riders are told, and come again each by itself.
            alone = [item for item in waiting if item.riders == 1 and not item.parts]
            self._retries.extend(batch.like(alone).singles())
            waiting = [item for item in waiting if item.riders > 1 or item.parts]
            batch = batch.like(waiting[:1])
        if len(batch.items) > 1 and waiting:
            self._retries.extend(batch.halves())
            return
        for item in waiting:
            self._end(item, error, "BACKEND")


def _turn(group: RequestGroup | LevelledGroup) -> Any:
    return group.turn


def _by_turn(entry: tuple[Hashable, RequestGroup | LevelledGroup]) -> Any:
    return entry[1].turn
