"""One sequence: its requests that wait, the one that runs, its slot, the state kept for it."""

from collections import deque

from inferd.batching.queue import QueuedRequest
from inferd.types.inference import SequenceStep
from inferd.types.tensor import Array

NOWHERE = -1


class Sequence:
    """Requests with one correlation id, of which one runs at a time, in order of arrival.

    `instance` and `slot` are NOWHERE while it waits in the backlog. It is `closed` when its last
    request has come, or one was lost: then only a request that starts anew is taken. `states` are
    those of a whole batch, of which its own are in `row`; NOWHERE is all of it.
    """

    __slots__ = (
        "begun", "closed", "corrid", "id", "instance", "offered", "row", "running", "slot",
        "states", "waiting",
    )  # fmt: skip

    def __init__(self, id: int | str) -> None:
        self.id = id
        self.instance = NOWHERE
        self.slot = NOWHERE
        self.waiting: deque[QueuedRequest] = deque()
        self.running: QueuedRequest | None = None
        self.offered = False
        """Whether its first waiting request may run now."""
        self.begun = False
        """Whether any request of it has been handed to an instance."""
        self.closed = False
        self.corrid: int | bytes = 0
        self.states: list[Array] | None = None
        self.row = NOWHERE

    @property
    def first(self) -> QueuedRequest:
        """The request that runs next; something must wait."""
        return self.waiting[0]

    def orphans_of(self, item: QueuedRequest) -> list[QueuedRequest]:
        """Take a waiting request out, and those that cannot go on without it: all that came behind
        it, up to one that starts anew. They are returned. Without one, the sequence is closed."""
        before: list[QueuedRequest] = []
        orphans: list[QueuedRequest] = []
        after: list[QueuedRequest] = []
        found = False
        for other in self.waiting:
            if other is item:
                found = True
            elif not found:
                before.append(other)
            elif after or step_of(other).start:
                after.append(other)
            else:
                orphans.append(other)
        self.waiting = deque([*before, *after])
        self.closed = self.closed or not after
        return orphans


def step_of(item: QueuedRequest) -> SequenceStep:
    """Where in its sequence a request stands."""
    step = item.request.sequence
    assert step is not None
    return step
