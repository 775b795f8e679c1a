"""The queue of a model whose requests have priorities, or are put off when they have waited too
long: a RequestQueue for each level and, behind it, one for what was put off.

Pure, as `queue.py`: no clock, no loop. A batch is filled from the most urgent level down, and
within a level in order of arrival, so requests of several levels may share it.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from inferd.batching.queue import QueuedRequest, QueueOptions, RequestGroup, RequestQueue
from inferd.errors import Overloaded

MOST_DEPTHS = 64
"""Levels whose depths are told one by one."""

NO_BOUND = 1 << 62


@dataclass(frozen=True, slots=True)
class Levels:
    """Priorities from 1, the most urgent, to `count`, 0 for none, and how each level treats its
    requests: as `options` say, or else the `fallback`."""

    fallback: QueueOptions
    count: int = 0
    default: int = 0
    options: Mapping[int, QueueOptions] = field(default_factory=dict)

    def level(self, priority: int) -> int:
        """The level of a request that asks for a priority; one that there is not is the default."""
        return priority if 0 < priority <= self.count else self.default

    def of(self, priority: int) -> QueueOptions:
        """How a request that asks for a priority is treated."""
        return self.options.get(self.level(priority), self.fallback)


class LevelledGroup:
    """Queued requests that may share a batch, in the order in which they run; a view."""

    __slots__ = ("_parts", "_shelf")

    def __init__(self, shelf: int, first: RequestGroup) -> None:
        self._shelf = shelf
        self._parts = [first]

    def append(self, part: RequestGroup) -> None:
        """More of them, less urgent."""
        self._parts.append(part)

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        return sum([part.rows for part in self._parts])

    @property
    def turn(self) -> tuple[int, int]:
        """What decides between groups: the smaller goes first."""
        return self._shelf, self._parts[0].oldest_arrival_ns

    @property
    def oldest_arrival_ns(self) -> int:
        """When the first of them arrived."""
        return min([part.oldest_arrival_ns for part in self._parts])

    def sizes(self) -> Iterator[int]:
        """The rows of each request, in the order in which they run."""
        return chain.from_iterable(part.sizes() for part in self._parts)


class LevelledQueue:
    """A queue in levels, each with a bound of its own that counts requests; used as a RequestQueue.

    A shelf is what a level has waiting, or, the next number, what it has put off.
    """

    def __init__(self, levels: Levels) -> None:
        self.size = 0
        self.rows = 0
        self._levels = levels
        self._shelves: dict[int, RequestQueue] = {}

    @property
    def groups(self) -> dict[Hashable, LevelledGroup]:
        """What waits, by what may share a batch."""
        groups: dict[Hashable, LevelledGroup] = {}
        for shelf, queue in sorted(self._shelves.items()):
            for key, part in queue.groups.items():
                if (group := groups.get(key)) is not None:
                    group.append(part)
                else:
                    groups[key] = LevelledGroup(shelf, part)
        return groups

    def push(self, item: QueuedRequest) -> None:
        """Add a request at the end of its level; raises Overloaded when the level is full."""
        priority = item.request.priority
        level = self._levels.level(priority)
        if self._depth(level) + item.riders > self._levels.of(priority).max_queue_size:
            raise Overloaded("Exceeds maximum queue size")
        self._put(item, 2 * level)

    def delay(self, item: QueuedRequest) -> None:
        """Put a waiting request off, behind all of its level that have not been."""
        self.remove(item)
        self._put(item, item.shelf + 1)

    def remove(self, item: QueuedRequest) -> None:
        """Take one waiting request out, wherever it stands."""
        self._shelves[item.shelf].remove(item)
        self._took(item.shelf, [item])

    def take(self, key: Hashable, count: int) -> list[QueuedRequest]:
        """Take the first `count` requests of a group."""
        taken: list[QueuedRequest] = []
        for shelf, queue in sorted(self._shelves.items()):
            if len(taken) == count:
                break
            part = queue.groups.get(key)
            if part is not None:
                items = queue.take(key, min(count - len(taken), len(part.items)))
                self._took(shelf, items)
                taken += items
        return taken

    def clear(self) -> list[QueuedRequest]:
        """Take all out."""
        items = [item for _, queue in sorted(self._shelves.items()) for item in queue.clear()]
        self._shelves.clear()
        self.size = self.rows = 0
        return items

    def depths(self) -> dict[int, int]:
        """Requests that wait, by level; nothing where there are no priorities."""
        most = min(self._levels.count, MOST_DEPTHS)
        return {level: self._depth(level) for level in range(1, most + 1)}

    def _depth(self, level: int) -> int:
        waiting = self._shelves.get(2 * level), self._shelves.get(2 * level + 1)
        return sum([queue.size for queue in waiting if queue is not None])

    def _put(self, item: QueuedRequest, shelf: int) -> None:
        queue = self._shelves.get(shelf)
        if queue is None:  # the bound is of a level, and has been looked at
            queue = self._shelves[shelf] = RequestQueue(NO_BOUND)
        queue.push(item)
        item.shelf = shelf
        self.size += item.riders
        self.rows += item.rows

    def _took(self, shelf: int, items: list[QueuedRequest]) -> None:
        self.size -= sum([item.riders for item in items])
        self.rows -= sum([item.rows for item in items])
        if not self._shelves[shelf].size:
            del self._shelves[shelf]
