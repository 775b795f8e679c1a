"""The SequenceBatcher: stands where a DynamicBatcher does, in front of all instances of a model
whose requests follow on one another.

How requests come in, how they leave before their turn, and how instances go and return; what runs
is up to `runs.py`. All of it runs on the event loop's thread.
"""

import time
from collections.abc import Callable
from functools import partial

from inferd.batching.queue import QueuedRequest
from inferd.batching.sequences.instance import Instance
from inferd.batching.sequences.runs import SequenceRuns
from inferd.batching.sequences.sequence import Sequence, step_of
from inferd.batching.sequences.table import UnknownSequence
from inferd.errors import InferdError, InvalidRequest, Overloaded, RequestCancelled
from inferd.types.inference import SequenceStep

_clock_ns = time.perf_counter_ns


class SequenceBatcher(SequenceRuns):
    """The sequences of one model: SequenceRuns that requests come to."""

    takes_riders = False

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

    _made_ids = 0

    def _made_id(self) -> int:
        while True:
            self._made_ids += 1
            if self._made_ids not in self.table.sequences:
                return self._made_ids

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

    async def drain(self) -> None:
        """Wait until nothing is queued or running. The caller has stopped adding, so a sequence of
        which nothing waits is over."""
        self._offer_all(self.table.close())
        self.look()
        await super().drain()
        if self._idle_timer is not None:
            self._idle_timer.cancel()

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

    def _returned(self, instance: Instance) -> None:
        self._offer_all(self.table.restore(instance.index))
        self.look()

    def _gone(self, instance: Instance, error: InferdError) -> None:
        """Nothing can run there soon: its sequences are over, and where no other instance is left,
        those without a slot are, too."""
        self.table.retire(instance.index)
        self._abandon(self.table.of_instance(instance.index), error)
        instance.again.clear()
        if not self.table.has_instances:
            while self.table.backlog:
                self._abandon(list(self.table.backlog), error)
        self.look()
        self._rest()


def _orphaned(item: QueuedRequest) -> RequestCancelled:
    return RequestCancelled(
        f"sequence {step_of(item).id} cannot go on: a request of it before this one was given up"
    )
