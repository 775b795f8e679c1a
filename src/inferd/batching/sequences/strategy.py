"""Which requests of an instance's sequences run together, and when. Pure: time is an argument.

Both strategies are offered sequences whose first waiting request may run, each at most once at a
time, and choose among them. `Direct` keeps each sequence in its row of the batch, `Oldest` batches
whichever came first, as a dynamic batcher does.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

from inferd.batching.policy import BatchPolicy, CloseReason, Wait
from inferd.batching.sequences.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Choice:
    """Run the first requests of these sequences now, together."""

    sequences: list[Sequence]
    reason: CloseReason


class Strategy(Protocol):
    """What runs next on one instance. `key` is equal for requests that may share a batch."""

    exclusive: bool
    """Whether one batch at a time is all that the instance may have."""
    limit: int
    """How many requests one batch may have."""
    prompt: bool
    """Whether whatever is offered runs as soon as it can, in rows of any order."""

    def offer(self, sequence: Sequence, key: Hashable) -> None:
        """The first waiting request of a sequence may run."""

    def retract(self, sequence: Sequence) -> None:
        """It may not any more."""

    @property
    def size(self) -> int:
        """How many sequences are offered."""

    def choose(self, now_ns: int, enough: int) -> Choice | Wait | None:
        """What to run now, taken out; None while nothing is offered. `enough`: see BatchPolicy."""

    def rows(self, sequences: list[Sequence]) -> list[Sequence | None]:
        """The rows of a batch of these; None is one without a request."""


class Direct:
    """Slot n is row n, in every batch as long as the sequence lives.

    A batch waits until a part of the slots, `utilization`, have a request, but no longer than
    `delay_ns`; where either is 0 it does not wait.
    """

    exclusive = True
    prompt = False

    def __init__(self, slots: int, delay_ns: int = 0, utilization: float = 0.0) -> None:
        self.limit = slots
        self._delay_ns = delay_ns
        self._wanted = utilization * slots
        self._offered: dict[Sequence, Hashable] = {}

    def offer(self, sequence: Sequence, key: Hashable) -> None:
        """See Strategy."""
        self._offered[sequence] = key

    def retract(self, sequence: Sequence) -> None:
        """See Strategy."""
        del self._offered[sequence]

    @property
    def size(self) -> int:
        """See Strategy."""
        return len(self._offered)

    def choose(self, now_ns: int, enough: int) -> Choice | Wait | None:
        """See Strategy: all that fit together with the one that came first."""
        offered = self._offered
        if not offered:
            return None
        oldest = min(offered, key=_arrival_ns)
        delayed = False
        if self._delay_ns and len(offered) < self._wanted:
            until_ns = oldest.first.arrival_ns + self._delay_ns
            if now_ns < until_ns:
                return Wait(until_ns)
            delayed = True
        wanted = offered[oldest]
        chosen = [sequence for sequence, key in offered.items() if key == wanted]
        for sequence in chosen:
            del offered[sequence]
        if len(chosen) == self.limit:
            return Choice(chosen, "full")
        return Choice(chosen, "delay" if delayed else "mismatch" if offered else "available")

    def rows(self, sequences: list[Sequence]) -> list[Sequence | None]:
        """See Strategy: up to the highest slot that has a request."""
        rows: list[Sequence | None] = [None] * (max(s.slot for s in sequences) + 1)
        for sequence in sequences:
            rows[sequence.slot] = sequence
        return rows


class Oldest:
    """Groups of sequences that may share a batch, in the order in which they were offered."""

    exclusive = False

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self.limit = max(1, policy.max_batch_size)
        self.prompt = policy.max_batch_size > 0 and not policy.explicit
        self._groups: dict[Hashable, dict[Sequence, None]] = {}
        self._keys: dict[Sequence, Hashable] = {}

    def offer(self, sequence: Sequence, key: Hashable) -> None:
        """See Strategy."""
        self._keys[sequence] = key
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = {}
        group[sequence] = None

    def retract(self, sequence: Sequence) -> None:
        """See Strategy."""
        self._remove(self._keys[sequence], [sequence])

    @property
    def size(self) -> int:
        """See Strategy."""
        return len(self._keys)

    def choose(self, now_ns: int, enough: int) -> Choice | Wait | None:
        """See Strategy."""
        groups = self._groups
        others = len(groups) > 1
        order = sorted(groups.items(), key=_by_age) if others else groups.items()
        until_ns = 0
        for key, group in order:
            oldest_ns = next(iter(group)).first.arrival_ns
            sizes = repeat(1, len(group))
            decision = self._policy.decide(sizes, oldest_ns, now_ns, others, enough)
            if not isinstance(decision, Wait):
                chosen = list(group)[: decision.count]
                self._remove(key, chosen)
                return Choice(chosen, decision.reason)
            until_ns = min(until_ns or decision.until_ns, decision.until_ns)
        return Wait(until_ns) if until_ns else None

    def rows(self, sequences: list[Sequence]) -> list[Sequence | None]:
        """See Strategy."""
        return list(sequences)

    def _remove(self, key: Hashable, sequences: list[Sequence]) -> None:
        group, keys = self._groups[key], self._keys
        for sequence in sequences:
            del keys[sequence]
        if len(sequences) == len(group):
            del self._groups[key]
            return
        for sequence in sequences:
            del group[sequence]


def _arrival_ns(sequence: Sequence) -> int:
    return sequence.first.arrival_ns


def _by_age(entry: tuple[Hashable, dict[Sequence, None]]) -> int:
    return next(iter(entry[1])).first.arrival_ns
