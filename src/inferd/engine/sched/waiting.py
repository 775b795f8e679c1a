"""The queue of sequences that wait to run: by priority, then fair among tenants, then by arrival.

Bounded by requests and by prompt tokens. Pure: it refuses to know why somebody waits.
"""

from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush, heapreplace

from inferd.engine.sched.sequence import Sequence
from inferd.errors import Overloaded

_Key = tuple[int, float, int, str]
"""Tokens served, then arrival and id of who is first in line; the tenant."""


class _Level:
    """The waiting sequences of one priority.

    Fair queueing by start time: a tenant's key is how many tokens it was served while anybody of
    its level waited; the least goes first. A tenant that comes new starts at `clock`, the key of
    who was served last, so that it neither waits for what others had nor saves up what it did not
    use.
    """

    def __init__(self) -> None:
        self.preempted: list[Sequence] = []
        """They were running: they go before all others, the earliest first."""
        self.lines: dict[str, OrderedDict[int, Sequence]] = {}
        """By tenant, in order of arrival; no line is empty."""
        self.served: dict[str, int] = {}
        self.clock = 0
        self._heap: list[_Key] = []
        self._entries: dict[str, _Key] = {}
        """By tenant, the one entry of the heap that counts."""

    @property
    def empty(self) -> bool:
        return not self.lines and not self.preempted

    def add(self, sequence: Sequence, front: bool = False) -> None:
        tenant = sequence.tenant
        line = self.lines.get(tenant)
        if line is None:
            line = self.lines[tenant] = OrderedDict()
            self.served[tenant] = max(self.served.get(tenant, 0), self.clock)
        line[sequence.id] = sequence
        if front:
            line.move_to_end(sequence.id, last=False)
        key = self._key(tenant)
        if tenant not in self._entries or key < self._entries[tenant]:
            self._entries[tenant] = key
            heappush(self._heap, key)
            if len(self._heap) > 2 * len(self._entries) + 64:  # most do not count any more
                self._heap = list(self._entries.values())
                heapify(self._heap)

    def add_preempted(self, sequence: Sequence) -> None:
        insort(self.preempted, sequence, key=_by_arrival)

    def remove(self, sequence: Sequence) -> None:
        line = self.lines.get(sequence.tenant)
        if line is None or sequence.id not in line:
            self.preempted.remove(sequence)
            return
        del line[sequence.id]
        if not line:
            del self.lines[sequence.tenant]

    def first(self) -> Sequence | None:
        if self.preempted:
            return self.preempted[0]
        heap, entries = self._heap, self._entries
        # A tenant's key grows without a word to the heap: its entry then stands too far in front,
        # and is put right when it is met.
        while heap:
            entry = heap[0]
            tenant = entry[3]
            if entry != entries.get(tenant):
                heappop(heap)
            elif tenant not in self.lines:
                heappop(heap)
                del entries[tenant]
            elif entry == (key := self._key(tenant)):
                return self._head(tenant)
            else:
                heapreplace(heap, key)
                entries[tenant] = key
        return None

    def charge(self, tenant: str, num_tokens: int) -> None:
        self.served[tenant] = max(self.served.get(tenant, 0), self.clock) + num_tokens

    def tidy(self) -> None:
        """Forget tenants that have gone and have no more behind them than one that comes new."""
        if len(self.served) > 2 * len(self.lines) + 64:
            self.served = {
                tenant: served
                for tenant, served in self.served.items()
                if served > self.clock or tenant in self.lines
            }

    def _head(self, tenant: str) -> Sequence:
        return next(iter(self.lines[tenant].values()))

    def _key(self, tenant: str) -> _Key:
        head = self._head(tenant)
        return (self.served[tenant], head.arrival_s, head.id, tenant)


class WaitingQueue:
    """Sequences that wait. `drain_s` says in how many seconds so many prompt tokens will have been
    computed; it makes the Retry-After of a full queue."""

    def __init__(
        self, max_requests: int, max_prompt_tokens: int, drain_s: Callable[[int], float]
    ) -> None:
        self.max_requests = max_requests
        self.max_prompt_tokens = max_prompt_tokens
        self.prompt_tokens = 0
        """Of all requests that wait; sequences of one request share theirs."""
        self._drain_s = drain_s
        self._requests: dict[str, int] = {}
        """By request, how many of its sequences wait."""
        self._levels: dict[int, _Level] = {}
        self._priorities: list[int] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def num_requests(self) -> int:
        """Requests of which at least one sequence waits."""
        return len(self._requests)

    def push(self, sequences: Iterable[Sequence]) -> None:
        """Add the sequences of one request. Raises Overloaded when they are too many; a queue
        that is empty takes any."""
        sequences = list(sequences)
        tokens = self.prompt_tokens + sequences[0].num_prompt_tokens
        full = len(self._requests) >= self.max_requests or tokens > self.max_prompt_tokens
        if full and self._requests:
            raise Overloaded(
                f"{len(self._requests)} requests with {self.prompt_tokens} prompt tokens wait "
                f"already, and the queue holds {self.max_requests} requests and "
                f"{self.max_prompt_tokens} tokens; try again later",
                retry_after_s=self._drain_s(self.prompt_tokens),
            )
        self._drop_empty_levels()
        for sequence in sequences:
            self._level(sequence.priority).add(sequence)
            self._count(sequence)

    def push_preempted(self, sequence: Sequence) -> None:
        """Add a sequence that was running; it goes before all others of its priority."""
        self._level(sequence.priority).add_preempted(sequence)
        self._count(sequence)

    def peek(self) -> Sequence | None:
        """The sequence whose turn it is."""
        for priority in self._priorities:
            first = self._levels[priority].first()
            if first is not None:
                return first
        return None

    def take(self, sequence: Sequence) -> None:
        """Take out the sequence that `peek` gave."""
        level = self._levels[sequence.priority]
        if not level.preempted:  # else it is the first of those, and no tenant's turn
            level.clock = max(level.clock, level.served[sequence.tenant])
        self.remove(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """Undo a `take`; several are undone from the last to the first."""
        if sequence.num_preemptions:
            self.push_preempted(sequence)
            return
        self._level(sequence.priority).add(sequence, front=True)
        self._count(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a waiting sequence out, wherever it stands."""
        self._levels[sequence.priority].remove(sequence)
        self._size -= 1
        left = self._requests[sequence.request_id] - 1
        if left:
            self._requests[sequence.request_id] = left
        else:
            del self._requests[sequence.request_id]
            self.prompt_tokens -= sequence.num_prompt_tokens

    def charge(self, sequence: Sequence, num_tokens: int) -> None:
        """Note that a tenant was served, if anybody could have been served instead."""
        if self._size and (level := self._levels.get(sequence.priority)) is not None:
            level.charge(sequence.tenant, num_tokens)

    def _count(self, sequence: Sequence) -> None:
        waiting = self._requests.get(sequence.request_id, 0)
        if not waiting:
            self.prompt_tokens += sequence.num_prompt_tokens
        self._requests[sequence.request_id] = waiting + 1
        self._size += 1

    def _level(self, priority: int) -> _Level:
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = _Level()
            insort(self._priorities, priority)
        return level

    def _drop_empty_levels(self) -> None:
        """Where nobody waits, everybody has been served: who had how much is forgotten."""
        for priority in [p for p in self._priorities if self._levels[p].empty]:
            del self._levels[priority]
            self._priorities.remove(priority)
        for level in self._levels.values():
            level.tidy()


def _by_arrival(sequence: Sequence) -> tuple[float, int]:
    return (sequence.arrival_s, sequence.id)
