"""A stream's answers on their way to the server, as many ahead as it has credit for. The rest waits
here, so that a sender never does: it may be one thread that answers for all requests.
"""

import threading
from collections import deque
from collections.abc import Callable

from inferd.workers.jobs import PARTS_AHEAD
from inferd.workers.messages import Done, Part


class Flow:
    """Used from any thread; `tell` gets everything in order, the end last."""

    def __init__(self, tell: Callable[[Part | Done], None]) -> None:
        self.cancelled = False
        self._tell = tell
        self._credit = PARTS_AHEAD
        self._costs: deque[int] = deque()
        self._waiting: deque[tuple[Part | Done, int]] = deque()
        self._lock = threading.Lock()

    def put(self, part: Part, cost: int) -> None:
        """The next answer, which counts as so many."""
        with self._lock:
            if not self.cancelled:
                self._waiting.append((part, cost))
                self._go_on()

    def end(self, done: Done) -> None:
        """There are no more."""
        with self._lock:
            self._waiting.append((done, 0))
            self._go_on()

    def took(self, parts: int) -> None:
        """So many have gone on to their reader."""
        with self._lock:
            for _ in range(min(parts, len(self._costs))):
                self._credit += self._costs.popleft()
            self._go_on()

    def cancel(self) -> None:
        """Nobody reads any more: what waits is let go of."""
        with self._lock:
            self.cancelled = True
            ends = [entry for entry in self._waiting if isinstance(entry[0], Done)]
            self._waiting = deque(ends)
            self._go_on()

    def _go_on(self) -> None:
        while self._waiting and self._waiting[0][1] <= self._credit:
            message, cost = self._waiting.popleft()
            if cost:
                self._credit -= cost
                self._costs.append(cost)
            self._tell(message)
