"""What of a model's sequences runs next, and what comes of it.

It asks a strategy for each instance, hands batches to the instance's runner, and tells the table
what has ended. All of it runs on the event loop's thread. It refuses to know how requests come in
and how they leave before their turn: `batcher.py` does.
"""

import asyncio
import time
from collections.abc import Iterable
from collections.abc import Sequence as Sequences
from functools import partial

from inferd.batching.base import Batcher
from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchResult
from inferd.batching.policy import CloseReason, Wait
from inferd.batching.queue import DONE, QUEUED, RUNNING, OnDoneTogether, QueuedRequest
from inferd.batching.sequences.filling import Filling
from inferd.batching.sequences.instance import Instance, SequenceBatch, SequenceRunner
from inferd.batching.sequences.sequence import Sequence
from inferd.batching.sequences.strategy import Choice, Strategy
from inferd.batching.sequences.table import SequenceTable
from inferd.errors import BackendError, InferdError, InvalidRequest
from inferd.observability.statistics import ModelStatistics
from inferd.types.inference import InferenceRequest, SequenceStep
from inferd.types.tensor import Array, TensorSpec

_clock_ns = time.perf_counter_ns


class SequenceRuns(Batcher):
    """The sequences of one model, in front of one SequenceRunner for each instance."""

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
        self._instances = [Instance(index, *pair) for index, pair in enumerate(pairs)]
        self.iterative = iterative
        """Whether each request is a sequence of its own."""
        self._dispatch_due = False
        self._delay_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        nobody = InferenceRequest(name, version, [])
        self._nobody = QueuedRequest(
            nobody, [], 1, None, None, lambda result: None, 0, DONE, riders=0
        )

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self.table.waiting

    @property
    def _busy(self) -> bool:
        return bool(self.table.waiting or self.running) or any(i.again for i in self._instances)

    # -- what may run ----------------------------------------------------------------------------

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

    def look(self) -> None:
        """See DynamicBatcher."""
        if not self._dispatch_due and (self.table.waiting or any(i.again for i in self._instances)):
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def _line_up(self, item: QueuedRequest) -> None:
        """A request that ends before its turn is told of it in its turn, where order is kept."""
        if self._order is not None and item not in self._order:
            self._order.append(item)

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

    def _run_next(self, instance: Instance, now_ns: int) -> Wait | None:
        """Start what may start on an instance. What ends before it returns is followed in the next
        turn, so that more may come meanwhile."""
        runner, strategy = instance.runner, instance.strategy
        if instance.restarts != runner.restarts:
            instance.restarts = runner.restarts
            if not self._filling.states:  # it had the states itself
                begun = [s for s in self.table.of_instance(instance.index) if s.begun]
                self._abandon(begun, BackendError("the worker that knew the sequence has ended"))
                self.look()
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
        self, instance: Instance, sequences: list[Sequence], reason: CloseReason,
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
        if result.parameters or result.each is not None or self._order is not None or self.trace.on:
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
        for item in batch.items:
            if item.parts and item.stage is not DONE:  # what was told cannot be told again
                self._end(item, error, "BACKEND")
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

    # -- at once ---------------------------------------------------------------------------------

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
