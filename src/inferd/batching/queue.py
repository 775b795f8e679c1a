"""The one queue of a model: bounded, first in first out, grouped by what may share a batch.

Pure: no clock, no loop. The caller passes the time in and cancels timers itself.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from inferd.errors import InferdError, Overloaded
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.tensor import Array, TensorSpec

OnDone = Callable[[InferenceResponse | InferdError], None]
OnPart = Callable[[InferenceResponse | InferdError], None]
OnDoneTogether = Callable[[Sequence["QueuedRequest"], list[bool], list[Array]], None]
"""Takes requests that ran together, which of them are still waited for, and their merged outputs, a
row for each."""

DEFAULT_MAX_QUEUE_SIZE = 1024
"""Requests that may wait for one model where its configuration does not say; Triton: no bound."""


class Stage(IntEnum):
    """Where a queued request is; it only moves forward."""

    QUEUED = 0
    RUNNING = 1
    DONE = 2


QUEUED, RUNNING, DONE = Stage.QUEUED, Stage.RUNNING, Stage.DONE


class QueuedRequest(msgspec.Struct, eq=False):
    """A validated request on its way through the batcher.

    `arrays` are its inputs in the model's order, `rows` the size of its batch dimension (1 for a
    model without one), `key` equal for requests that may share a batch. `outputs` are the indices
    of the model's outputs that the caller wants, None for all. `on_done` is called exactly once,
    unless the request is cancelled. Times are `time.perf_counter_ns`.
    """

    request: InferenceRequest
    arrays: list[Array]
    rows: int
    key: Hashable
    outputs: tuple[int, ...] | None
    on_done: OnDone
    arrival_ns: int
    stage: Stage = QUEUED
    timers: list[Callable[[], object]] | None = None
    result: InferenceResponse | InferdError | None = None
    on_cancel: "Callable[[QueuedRequest], None] | None" = None
    """Set by whoever holds the request."""
    on_part: OnPart | None = None
    """Takes each part of a stream, if the caller wants one; `on_done` then gets an end without
    outputs. A part that is an error does not end the stream."""
    parts: int = 0
    """How many of a stream have been told."""
    part_ns: int = 0
    """When the latest part of a stream was told, or its batch began; 0 where nothing more comes."""
    riders: int = 1
    """How many requests of one row each it stands for, which came together."""
    outputs_of: tuple[TensorSpec, ...] | None = None
    """What the answer is made of, where that is not the model's outputs."""
    shelf: int = 0
    """Where in a queue of several levels it waits."""
    together: OnDoneTogether | None = None
    """What may be called once for many that ran together and succeeded, rather than each one's
    `on_done`."""

    def cancel(self) -> None:
        """The caller has left: harmless after the answer."""
        if self.on_cancel is not None:
            self.on_cancel(self)


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """How a queue treats its requests; see ModelQueuePolicy for the meaning of the fields.
    `delay` is the timeout action DELAY."""

    max_queue_size: int
    default_timeout_us: int = 0
    allow_timeout_override: bool = True
    preserve_ordering: bool = False
    delay: bool = False

    def timeout_us(self, asked_us: int) -> int:
        """How long a request may wait; what it asks for can only shorten the default."""
        if asked_us <= 0 or not self.allow_timeout_override:
            return self.default_timeout_us
        return min(asked_us, self.default_timeout_us) if self.default_timeout_us else asked_us


class RequestGroup:
    """Queued requests that may share a batch, in order of arrival."""

    __slots__ = ("items", "rows")

    def __init__(self) -> None:
        # An OrderedDict is a queue with removal from the middle in constant time.
        self.items: OrderedDict[QueuedRequest, None] = OrderedDict()
        self.rows = 0

    @property
    def oldest_arrival_ns(self) -> int:
        """When the first of the group arrived; the group must not be empty."""
        return next(iter(self.items)).arrival_ns

    turn = oldest_arrival_ns
    """What decides between groups: the smaller goes first."""

    def sizes(self) -> Iterator[int]:
        """The rows of each request, in order of arrival."""
        return (item.rows for item in self.items)


class RequestQueue:
    """A bounded queue of requests in groups; `max_size` counts requests."""

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.size = 0
        self.rows = 0
        self.groups: dict[Hashable, RequestGroup] = {}

    def push(self, item: QueuedRequest) -> None:
        """Add a request at the end of its group; raises Overloaded when the queue is full."""
        if self.size + item.riders > self.max_size:
            raise Overloaded("Exceeds maximum queue size")
        group = self.groups.get(item.key)
        if group is None:
            group = self.groups[item.key] = RequestGroup()
        group.items[item] = None
        group.rows += item.rows
        self.size += item.riders
        self.rows += item.rows

    def remove(self, item: QueuedRequest) -> None:
        """Take one waiting request out, wherever it stands."""
        group = self.groups[item.key]
        del group.items[item]
        self._account(item.key, group, item.riders, item.rows)

    def take(self, key: Hashable, count: int) -> list[QueuedRequest]:
        """Take the first `count` requests of a group."""
        group = self.groups[key]
        items = group.items
        if count == len(items):
            taken = list(items)
            items.clear()
        else:
            taken = [items.popitem(last=False)[0] for _ in range(count)]
        requests = sum([item.riders for item in taken])
        self._account(key, group, requests, sum([item.rows for item in taken]))
        return taken

    def clear(self) -> list[QueuedRequest]:
        """Take all out."""
        return [i for key in list(self.groups) for i in self.take(key, len(self.groups[key].items))]

    def _account(self, key: Hashable, group: RequestGroup, requests: int, rows: int) -> None:
        group.rows -= rows
        self.size -= requests
        self.rows -= rows
        if not group.items:
            del self.groups[key]
