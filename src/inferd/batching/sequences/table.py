"""Which sequence has which slot, which wait for one, and which are over. Pure: time is an argument.

A sequence has its slot from its first request until its last has been run, until it has been idle
for too long, or until a request of it is lost. Those that find no slot free wait in the backlog.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Sequences
from heapq import heapify, heappop, heappush

from inferd.batching.queue import QueuedRequest
from inferd.batching.sequences.sequence import NOWHERE, Sequence, step_of
from inferd.errors import Overloaded
from inferd.types.inference import SequenceStep


class UnknownSequence(Exception):
    """A request goes on with a sequence that is not there."""


class SequenceTable:
    """The sequences of one model and the slots of its instances.

    `max_waiting` bounds the requests that wait. A sequence that goes on may always have one, so
    that a client who waits for each answer is refused at the start or never.
    """

    def __init__(self, instances: int, slots: int, max_idle_ns: int, max_waiting: int) -> None:
        self.sequences: dict[int | str, Sequence] = {}
        """All that are not over, by correlation id."""
        self.backlog: dict[Sequence, None] = {}
        """Those without a slot, in order."""
        self.waiting = 0
        """Requests that wait."""
        self.closing = False
        """Whether no more requests come: a sequence of which none waits is then over."""
        self.max_idle_ns = max_idle_ns
        self.max_waiting = max_waiting
        self._instances = instances
        self._slots = slots
        # The lowest slots first, so that batches stay narrow, of each instance in turn.
        self._free = [(slot, instance) for slot in range(slots) for instance in range(instances)]
        heapify(self._free)
        self._away: set[int] = set()
        self._idle: dict[Sequence, int] = {}
        """Sequences with a slot of which nothing waits and nothing runs, since when; in order."""

    # -- requests --------------------------------------------------------------------------------

    def admit(self, item: QueuedRequest) -> Sequence:
        """Put a request behind those of its sequence; raises UnknownSequence, Overloaded."""
        step = step_of(item)
        sequence = self.sequences.get(step.id)
        if sequence is None or sequence.closed:
            if not step.start:
                raise UnknownSequence
            if self.waiting >= self.max_waiting:
                raise Overloaded("Exceeds maximum queue size")
            if sequence is None:
                sequence = self.sequences[step.id] = Sequence(step.id)
                self._place(sequence)
        elif sequence.waiting and self.waiting >= self.max_waiting:
            sequence.closed = True  # what comes behind the request that is lost would be wrong
            raise Overloaded("Exceeds maximum queue size")
        self._idle.pop(sequence, None)
        sequence.waiting.append(item)
        sequence.closed = step.end
        self.waiting += 1
        return sequence

    def begin(self, sequence: Sequence) -> QueuedRequest:
        """Take the first waiting request of a sequence, to run it."""
        item = sequence.running = sequence.waiting.popleft()
        sequence.offered, sequence.begun = False, True
        if step_of(item).start:
            sequence.states = None  # should it fail, the next begins as it would have
        self.waiting -= 1
        return item

    def repeat(self, sequence: Sequence) -> None:
        """The request that ran is to run again, before all others of its sequence."""
        assert sequence.running is not None
        sequence.waiting.appendleft(sequence.running)
        sequence.running = None
        self.waiting += 1

    def finish(self, sequence: Sequence, now_ns: int) -> Iterable[Sequence]:
        """The request that ran has ended; the sequences that have got a slot by that."""
        item, sequence.running = sequence.running, None
        assert item is not None
        if step_of(item).end:
            return self.release(sequence)
        return self._rest(sequence, now_ns)

    def withdraw(
        self, sequence: Sequence, item: QueuedRequest, now_ns: int
    ) -> tuple[list[QueuedRequest], Iterable[Sequence]]:
        """Take a waiting request out; the requests that cannot go on without it, which are taken
        out too, and the sequences that have got a slot by that."""
        before = len(sequence.waiting)
        orphans = sequence.orphans_of(item)
        self.waiting -= before - len(sequence.waiting)
        if sequence.running is not None:
            return orphans, ()
        return orphans, self._rest(sequence, now_ns)

    def _rest(self, sequence: Sequence, now_ns: int) -> Iterable[Sequence]:
        if sequence.waiting:
            return ()
        if sequence.closed or self.closing:
            return self.release(sequence)
        self._idle[sequence] = now_ns
        return ()

    def free_of(self, steps: Sequences[SequenceStep]) -> list[Sequence] | None:
        """The sequences of requests that came together, new ones among them, if each could run
        before any other of its sequence or of another; otherwise None. Nothing is changed."""
        if self.waiting or self.closing or len({step.id for step in steps}) < len(steps):
            return None
        known, idle = self.sequences, self._idle
        sequences, new = [], 0
        for step in steps:
            sequence = known.get(step.id)
            if sequence is None:
                if not step.start:
                    return None
                sequence = Sequence(step.id)
                new += 1
            elif sequence not in idle:
                return None
            sequences.append(sequence)
        return sequences if new <= len(self._free) else None

    def ran(
        self, sequences: Sequences[Sequence], steps: Sequences[SequenceStep], now_ns: int
    ) -> None:
        """Requests of sequences that `free_of` gave have run."""
        idle = self._idle
        for sequence, step in zip(sequences, steps, strict=True):
            if sequence.instance == NOWHERE:
                if step.end:
                    continue
                self.sequences[sequence.id] = sequence
                sequence.begun = True
                self._place(sequence)
            elif step.end:
                self.release(sequence)
                continue
            else:
                del idle[sequence]  # it is the last now
            idle[sequence] = now_ns

    # -- sequences -------------------------------------------------------------------------------

    def release(self, sequence: Sequence) -> list[Sequence]:
        """A sequence is over: its slot is free. What still waits of it starts anew, and begins
        another one behind all others. The sequences that have got a slot by that."""
        del self.sequences[sequence.id]
        self._idle.pop(sequence, None)
        if sequence.waiting:
            following = self.sequences[sequence.id] = Sequence(sequence.id)
            following.waiting, sequence.waiting = sequence.waiting, following.waiting
            following.closed, following.corrid = sequence.closed, sequence.corrid
            self.backlog[following] = None
        if sequence.instance == NOWHERE:
            del self.backlog[sequence]
        elif sequence.instance not in self._away:
            heappush(self._free, (sequence.slot, sequence.instance))
        return self._refill()

    def abandon(self, sequence: Sequence) -> tuple[list[QueuedRequest], list[Sequence]]:
        """A sequence is over at once, with the one that runs and those that wait, up to one that
        starts anew; those, and the sequences that have got a slot by that."""
        waiting, ended = sequence.waiting, []
        if not sequence.begun:  # its own start still waits
            ended.append(waiting.popleft())
        while waiting and not step_of(waiting[0]).start:
            ended.append(waiting.popleft())
        self.waiting -= len(ended)
        if sequence.running is not None:
            ended.insert(0, sequence.running)
            sequence.running = None
        return ended, self.release(sequence)

    def close(self) -> list[Sequence]:
        """No more requests come; the sequences that have got a slot by that."""
        self.closing = True
        return self._release_all(list(self._idle))

    def expire(self, now_ns: int) -> list[Sequence]:
        """End what has been idle for too long; the sequences that have got a slot by that."""
        due = []
        for sequence, since_ns in self._idle.items():
            if since_ns + self.max_idle_ns > now_ns:
                break
            due.append(sequence)
        return self._release_all(due)

    def expires_ns(self) -> int:
        """When the next sequence will have been idle for too long; 0 while none is idle."""
        for since_ns in self._idle.values():
            return since_ns + self.max_idle_ns
        return 0

    @property
    def active(self) -> int:
        """Sequences that have a slot."""
        return len(self.sequences) - len(self.backlog)

    def of_instance(self, instance: int) -> list[Sequence]:
        """The sequences that have a slot there."""
        return [s for s in self.sequences.values() if s.instance == instance]

    # -- instances -------------------------------------------------------------------------------

    def retire(self, instance: int) -> None:
        """An instance is away: no more sequences are to go there."""
        self._away.add(instance)
        self._free = [entry for entry in self._free if entry[1] != instance]
        heapify(self._free)

    @property
    def has_instances(self) -> bool:
        """Whether not all of them are away."""
        return len(self._away) < self._instances

    def restore(self, instance: int) -> list[Sequence]:
        """An instance that was away is back; the sequences that have got a slot by that."""
        if instance not in self._away:
            return []
        self._away.remove(instance)
        taken = {sequence.slot for sequence in self.of_instance(instance)}
        for slot in range(self._slots):
            if slot not in taken:
                heappush(self._free, (slot, instance))
        return self._refill()

    # -- slots -----------------------------------------------------------------------------------

    def _place(self, sequence: Sequence) -> None:
        if self._free:
            sequence.slot, sequence.instance = heappop(self._free)
        else:
            self.backlog[sequence] = None

    def _refill(self) -> list[Sequence]:
        placed = []
        while self._free and self.backlog:
            sequence = next(iter(self.backlog))
            del self.backlog[sequence]
            self._place(sequence)
            placed.append(sequence)
        return placed

    def _release_all(self, sequences: list[Sequence]) -> list[Sequence]:
        return [placed for sequence in sequences for placed in self.release(sequence)]
