"""The SequenceBatcher: stands where a DynamicBatcher does, in front of all instances of a model
whose requests follow on one another.

It asks the table which sequence has which slot, a strategy for each instance what runs next, and
hands batches to the instance's runner. All of it runs on the event loop's thread.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Sequences
from functools import partial
from typing import Protocol

import numpy as np

from inferd.batching.base import Batcher
from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult, BatchRunner
from inferd.batching.policy import CloseReason, Wait
from inferd.batching.queue import DONE, QUEUED, RUNNING, OnDoneTogether, QueuedRequest
from inferd.batching.sequences.filling import Column, Filling
from inferd.batching.sequences.sequence import Sequence, step_of
from inferd.batching.sequences.strategy import Choice, Strategy
from inferd.batching.sequences.table import SequenceTable, UnknownSequence
from inferd.errors import BackendError, InferdError, InvalidRequest, Overloaded, RequestCancelled
from inferd.observability.statistics import ModelStatistics
from inferd.types.inference import InferenceRequest, SequenceStep
from inferd.types.tensor import Array, TensorSpec

_clock_ns = time.perf_counter_ns


class SequenceRunner(BatchRunner, Protocol):
    """What runs the batches of one instance."""

    @property
    def restarts(self) -> int:
        """How often it has lost its memory."""


class SequenceBatch(Batch):
    """A batch of sequences: `items` are their requests, and a request of nobody's for each row
    without one. `columns` are its inputs."""

    __slots__ = ("columns_", "instance", "sequences")

    def __init__(
        self, items: list[QueuedRequest], sequences: list[Sequence | None], instance: "_Instance",
        columns: list[Column],
    ) -> None:  # fmt: skip
        super().__init__(items, len(items))
        self.sequences = sequences
        self.instance = instance
        self.columns_ = columns

    def columns(self) -> list[Column]:
        """See Batch."""
        return self.columns_

    def merge(self) -> list[Array]:
        """See Batch."""
        return [c[0] if len(c) == 1 else np.concatenate(c) for c in self.columns_]


class _Instance:
    """One instance: what it runs with, what may run on it, what is to be run again."""

    def __init__(self, index: int, runner: SequenceRunner, strategy: Strategy) -> None:
        self.index = index
        self.runner = runner
        self.strategy = strategy
        self.running = 0
        self.restarts = runner.restarts
        self.again: deque[tuple[list[Sequence], bool]] = deque()
        """Sequences whose requests ran in a batch that failed, and whether nothing may run beside
        them now."""

    @property
    def free(self) -> bool:
        """Whether a batch may start now."""
        exclusive = self.strategy.exclusive and self.running
        return not exclusive and self.runner.available()


class SequenceBatcher(Batcher):
    """The sequences of one model, in front of one SequenceRunner for each instance."""

    takes_riders = False

    def __init__(
        self,
        table: SequenceTable,
        strategies: list[Strategy],
        filling: Filling,
        outputs: tuple[TensorSpec, ...],
        runners: list[SequenceRunner],
        statistics: ModelStatistics,
        loop: asyncio.AbstractEventLoop,
        name: str,
        version: str,
        iterative: bool = False,
        preserve_ordering: bool = False,
    ) -> None:
        super().__init__(outputs, statistics, loop, name, version, preserve_ordering)
        self.table = table
        self._filling = filling
        pairs = zip(runners, strategies, strict=True)
        self._instances = [_Instance(index, *pair) for index, pair in enumerate(pairs)]
        self.iterative = iterative
        """Whether each request is a sequence of its own."""
        self._made_ids = 0
        self._dispatch_due = False
        self._delay_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        nobody = InferenceRequest(name, version, [])
        self._nobody = QueuedRequest(
            nobody, [], 1, None, None, lambda result: None, 0, DONE, riders=0
        )

    # -- in --------------------------------------------------------------------------------------

    def enqueue(self, item: QueuedRequest) -> None:
        """Put a request behind those of its sequence; raises InvalidRequest for one that is of no
        sequence, and Overloaded at once where too many wait."""
        try:
            sequence = self._admit(item)
        except InferdError as error:
            took_ns = _clock_ns() - item.arrival_ns
            self._statistics.failed(
                "REJECTED" if isinstance(error, Overloaded) else "OTHER", took_ns
            )
            raise
        self.in_flight += 1
        item.on_cancel = self.cancel
        request = item.request
        if request.timeout_us or request.deadline_ns:
            self._set_timers(item, request.timeout_us, request.deadline_ns)
        self._offer(sequence)
        self.look()

    def _admit(self, item: QueuedRequest) -> Sequence:
        request = item.request
        if item.rows != 1:
            raise InvalidRequest(
                f"inference request to model '{self._name}' must specify batch-size 1 due to "
                "requirements of sequence batcher"
            )
        if self.iterative:
            # Each request is a sequence of its own, whose steps are the model's to count.
            id = request.sequence.id if request.sequence is not None else self._made_id()
            request.sequence = SequenceStep(id, start=True)
        step = request.sequence
        if step is None:
            raise InvalidRequest(
                f"inference request to model '{self._name}' must specify a non-zero or non-empty "
                "correlation ID"
            )
        table = self.table
        known = table.sequences.get(step.id)
        corrid = self._filling.corrid(step.id, self._name) if known is None else known.corrid
        try:
            sequence = table.admit(item)
        except UnknownSequence:
            raise InvalidRequest(
                f"inference request for sequence {step.id} to model '{self._name}' must specify "
                "the START flag on the first request of the sequence"
            ) from None
        sequence.corrid = corrid
        if self.iterative:
            sequence.closed = True
        return sequence

    def _made_id(self) -> int:
        while True:
            self._made_ids += 1
            if self._made_ids not in self.table.sequences:
                return self._made_ids

    def run_steps_now(
        self, inputs: list[Array], steps: Sequences[SequenceStep], arrival_ns: int
    ) -> list[Array] | None:
        """Run requests that came together, and are merged already, these steps of as many
        sequences.

        Returns the merged outputs, or None, with nothing done, when they have to queue: for others,
        for an instance, for a slot, for one another, or because each must be tried by itself.
        """
        (instance, *others), filling = self._instances, self._filling
        if others or self.running or self._order is not None or not filling.mergeable:
            return None
        if instance.again or not (instance.strategy.prompt and instance.free):
            return None
        sequences = self.table.free_of(steps)
        if sequences is None:
            return None
        start_ns, rows = _clock_ns(), len(steps)
        try:
            for sequence, step in zip(sequences, steps, strict=True):
                sequence.corrid = filling.corrid(step.id, self._name)
        except InvalidRequest:
            return None
        result = instance.runner.run_now([*inputs, *filling.merged(sequences, steps)], rows)
        if result is None or result.outputs is None:
            return None
        outputs = result.outputs
        if any(output.shape[:1] != (rows,) for output in outputs):
            return None
        try:
            filling.keep(sequences, (), outputs)
        except BackendError:
            return None
        self.table.ran(sequences, steps, self._now_ns())
        if self._idle_timer is None:
            self._watch_idle()
        end_ns = _clock_ns()
        statistics = self._statistics
        statistics.batch_closed("full" if rows == instance.strategy.limit else "available")
        statistics.executed(
            rows, rows, result.input_ns, result.infer_ns, 0, int(time.time() * 1000)
        )
        statistics.succeeded_at_once(rows, arrival_ns, start_ns, end_ns)
        return outputs[: len(self._outputs)]

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self.table.waiting

    def _offer(self, sequence: Sequence) -> None:
        """Have the first request of a sequence run when its instance gets to it, if it may."""
        if sequence.offered or sequence.running is not None or not sequence.waiting:
            return
        if sequence.instance < 0:
            return
        sequence.offered = True
        item = sequence.first
        if self._order is not None and item.stage is QUEUED:
            self._order.append(item)
        shapes = self._filling.shapes(sequence) if self._filling.free else None
        self._instances[sequence.instance].strategy.offer(sequence, (item.key, shapes))

    def _retract(self, sequence: Sequence) -> None:
        if sequence.offered:
            sequence.offered = False
            self._instances[sequence.instance].strategy.retract(sequence)

    def _offer_all(self, sequences: Iterable[Sequence]) -> None:
        for sequence in sequences:
            self._offer(sequence)

    # -- leaving ---------------------------------------------------------------------------------

    def _withdraw(self, item: QueuedRequest) -> None:
        """See Batcher. What came behind it in its sequence cannot go on, and is told."""
        sequence = self.table.sequences[step_of(item).id]
        if sequence.first is item:
            self._retract(sequence)
        orphans, placed = self.table.withdraw(sequence, item, self._now_ns())
        self._line_up(item)
        for orphan in orphans:
            self._line_up(orphan)
            self._end(orphan, _orphaned(orphan), "CANCELED")
        self._offer(sequence)
        self._offer_all(placed)
        self.look()

    def _forsake(self, item: QueuedRequest) -> None:
        """See Batcher. One that was to be run again, and waits for that, is not."""
        sequence = self.table.sequences.get(step_of(item).id)
        if sequence is None or item not in sequence.waiting:
            if sequence is not None:
                self._instances[sequence.instance].runner.cancelled(item)
            return
        self._retract(sequence)
        _, placed = self.table.withdraw(sequence, item, self._now_ns())
        self._offer(sequence)
        self._offer_all(placed)
        self.look()

    def _line_up(self, item: QueuedRequest) -> None:
        """A request that ends before its turn is told of it in its turn, where order is kept."""
        if self._order is not None and item not in self._order:
            self._order.append(item)

    async def drain(self) -> None:
        """Wait until nothing is queued or running. The caller has stopped adding, so a sequence of
        which nothing waits is over."""
        self._offer_all(self.table.close())
        self.look()
        await super().drain()
        if self._idle_timer is not None:
            self._idle_timer.cancel()

    @property
    def _busy(self) -> bool:
        return bool(self.table.waiting or self.running) or any(i.again for i in self._instances)

    # -- instances -------------------------------------------------------------------------------

    def listener(
        self, index: int
    ) -> tuple[Callable[[], None], Callable[[InferdError], None], Callable[[], bool]]:
        """What an instance's runner is to call when it may run what it could not before, and when
        it cannot for a while; and how it learns whether there is anything for it to run."""
        instance = self._instances[index]
        return (
            partial(self._returned, instance),
            partial(self._gone, instance),
            lambda: bool(instance.again or instance.strategy.size),
        )

    def look(self) -> None:
        """See DynamicBatcher."""
        if not self._dispatch_due and (self.table.waiting or any(i.again for i in self._instances)):
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def _returned(self, instance: _Instance) -> None:
        self._offer_all(self.table.restore(instance.index))
        self.look()

    def _gone(self, instance: _Instance, error: InferdError) -> None:
        """Nothing can run there soon: its sequences are over, and where no other instance is left,
        those without a slot are, too."""
        self.table.retire(instance.index)
        self._abandon(self.table.of_instance(instance.index), error)
        instance.again.clear()
        if not self.table.has_instances:
            self._abandon(list(self.table.backlog), error)
        self._rest()

    def _abandon(self, sequences: list[Sequence], error: InferdError) -> None:
        for sequence in sequences:
            self._retract(sequence)
            items, placed = self.table.abandon(sequence)
            for item in items:
                if item.stage is not DONE:
                    self._line_up(item)
                    self._end(item, error, "BACKEND")
            self._offer_all(placed)

    # -- dispatch --------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        self._dispatch_due = False
        if self._delay_timer is not None:
            self._delay_timer.cancel()
            self._delay_timer = None
        now_ns = _clock_ns()
        until_ns = 0
        for instance in self._instances:
            wait = self._run_next(instance, now_ns)
            if wait is not None:
                until_ns = min(until_ns or wait.until_ns, wait.until_ns)
        if until_ns:
            delay_s = max(0.0, (until_ns - now_ns) / 1e9)
            self._delay_timer = self._loop.call_later(delay_s, self._dispatch)

    def _run_next(self, instance: _Instance, now_ns: int) -> Wait | None:
        """Start what may start on an instance. What ends before it returns is followed in the next
        turn, so that more may come meanwhile."""
        runner, strategy = instance.runner, instance.strategy
        if instance.restarts != runner.restarts:
            instance.restarts = runner.restarts
            if not self._filling.states:  # it had the states itself
                begun = [s for s in self.table.of_instance(instance.index) if s.begun]
                self._abandon(begun, BackendError("the worker that knew the sequence has ended"))
        while instance.free:
            before = self.running
            if instance.again:
                sequences, secluded = instance.again.popleft()
                self._start(instance, sequences, "retry", secluded)
            else:
                choice = strategy.choose(now_ns, runner.enough(strategy.size, 1))
                if not isinstance(choice, Choice):
                    return choice
                for sequence in choice.sequences:
                    item = self.table.begin(sequence)
                    if item.stage is QUEUED:
                        item.stage = RUNNING
                self._start(instance, choice.sequences, choice.reason)
            if self.running == before:
                break
        return None

    def _start(
        self, instance: _Instance, sequences: list[Sequence], reason: CloseReason,
        secluded: bool = False,
    ) -> None:  # fmt: skip
        rows = instance.strategy.rows(sequences)
        items = [self._nobody if row is None else _running(row) for row in rows]
        batch = SequenceBatch(items, rows, instance, self._filling.columns(rows))
        batch.start_ns = _clock_ns()
        batch.secluded = secluded
        for item in items:
            if item.on_part is not None:
                item.part_ns = batch.start_ns
                batch.on_part = partial(self._part, batch)
        self._statistics.batch_closed(reason)
        self.running += 1
        instance.running += 1
        instance.runner.run(batch, self._finished, not self.table.waiting)

    # -- out -------------------------------------------------------------------------------------

    def _finished(self, batch: Batch, result: BatchResult) -> None:
        assert isinstance(batch, SequenceBatch)
        batch.instance.running -= 1
        self.running -= 1
        split_ns = _clock_ns()
        over: list[Sequence] = []
        error = result.error
        together = self._together(batch, result)
        parts: Sequences[Sequences[Array | None]] = []
        if error is None and (result.errors or result.reschedule):
            batch, over = self._without(batch, result)
        if error is None and together is None:
            parts, error = self._split(batch, result.outputs, result.each)
        if error is None:
            try:
                whole = result.outputs if result.each is None else None
                self._filling.keep(batch.sequences, parts, whole)
            except BackendError as wrong:
                error = wrong
        if error is None:
            if together is not None:
                self._succeeded_together(batch, together, result, split_ns)
            else:
                self._succeeded(
                    batch, parts, result.input_ns, result.infer_ns, split_ns, result.parameters
                )
            over.extend([row for row in batch.sequences if row is not None])
        else:
            over.extend(self._failed(batch, error, result.again))
        self._advance(over)
        self.look()
        self._rest()

    def _together(self, batch: SequenceBatch, result: BatchResult) -> OnDoneTogether | None:
        """What takes the answers of all of a batch at once, if one thing does: of requests with
        nothing to be seen to but their answers."""
        outputs, items = result.outputs, batch.items
        together = items[0].together
        if together is None or outputs is None or result.errors or result.reschedule:
            return None
        if result.parameters or result.each is not None or self._order or self.trace.on:
            return None
        rows = (len(items),)
        if any(output.shape[:1] != rows for output in outputs):
            return None
        alike = all(item.together is together and item.timers is None for item in items)
        return together if alike else None

    def _succeeded_together(
        self, batch: SequenceBatch, together: OnDoneTogether, result: BatchResult, split_ns: int
    ) -> None:
        """See Batcher._succeeded."""
        items, end_ns = batch.items, _clock_ns()
        wanted = [item.stage is not DONE for item in items]
        arrivals_ns = [item.arrival_ns for item in items if item.stage is not DONE]
        for item in items:
            item.stage = DONE
        self.in_flight -= len(arrivals_ns)
        statistics, count = self._statistics, len(items)
        statistics.executed(
            count, count, result.input_ns, result.infer_ns, end_ns - split_ns,
            int(time.time() * 1000),
        )  # fmt: skip
        assert result.outputs is not None
        together(items, wanted, result.outputs[: len(self._outputs)])
        statistics.succeeded(arrivals_ns, batch.start_ns, end_ns)

    def _advance(self, sequences: list[Sequence]) -> None:
        """The requests that these ran have ended."""
        now_ns = self._now_ns()
        for sequence in sequences:
            placed = self.table.finish(sequence, now_ns)
            if sequence.waiting:
                self._offer(sequence)
            if placed:
                self._offer_all(placed)
        if self._idle_timer is None:
            self._watch_idle()

    def _without(
        self, batch: SequenceBatch, result: BatchResult
    ) -> tuple[SequenceBatch, list[Sequence]]:
        """The batch without the requests that failed by themselves, which are answered, and without
        those that are to run again; the sequences of those that have ended."""
        errors, again = dict(result.errors), set(result.reschedule)
        if not self.iterative:
            stray = BackendError("only a request of an iterative sequence can be run again")
            errors.update(dict.fromkeys(again, stray))
        over = []
        for place in {*errors, *again}:
            sequence, item = batch.sequences[place], batch.items[place]
            if sequence is None:
                continue
            if item.stage is not DONE:
                if place not in errors:
                    item.request.sequence = SequenceStep(sequence.id)
                    self.table.repeat(sequence)
                    self._offer(sequence)
                    continue
                self._end(item, errors[place], "BACKEND")
            over.append(sequence)
        left = [p for p in range(len(batch.items)) if p not in errors and p not in again]
        rest = SequenceBatch(
            [batch.items[p] for p in left], [batch.sequences[p] for p in left], batch.instance, []
        )
        rest.start_ns, rest.on_part = batch.start_ns, batch.on_part
        return rest, over

    def _failed(self, batch: SequenceBatch, error: InferdError, again: bool) -> list[Sequence]:
        """Where the server has the states, a run that failed has changed nothing: the batch is
        halved and run again, until the request at fault stands alone. Elsewhere all have failed.
        The sequences whose requests have ended."""
        sequences = [row for row in batch.sequences if row is not None]
        wanted = [s for s in sequences if _running(s).stage is not DONE]
        if self._filling.states and wanted and (again or len(sequences) > 1):
            if again:
                batch.instance.again.extend(([s], True) for s in wanted)
                return [s for s in sequences if s not in wanted]
            middle = len(sequences) // 2
            halves = sequences[:middle], sequences[middle:]
            batch.instance.again.extend((half, False) for half in halves)
            return []
        for sequence in wanted:
            self._end(_running(sequence), error, "BACKEND")
        return sequences

    # -- silence ---------------------------------------------------------------------------------

    def _now_ns(self) -> int:
        return int(self._loop.time() * 1e9)

    def _watch_idle(self) -> None:
        until_ns = self.table.expires_ns()
        if until_ns:
            self._idle_timer = self._loop.call_at(until_ns / 1e9, self._expire_idle)

    def _expire_idle(self) -> None:
        self._idle_timer = None
        self._offer_all(self.table.expire(self._now_ns()))
        self._watch_idle()
        self.look()


def _running(sequence: Sequence) -> QueuedRequest:
    item = sequence.running
    assert item is not None
    return item


def _orphaned(item: QueuedRequest) -> RequestCancelled:
    return RequestCancelled(
        f"sequence {step_of(item).id} cannot go on: a request of it before this one was given up"
    )
