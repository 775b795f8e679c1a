"""Calls for the thread of an event loop, left by any thread."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_log = logging.getLogger("inferd.embedded")


class Mailbox:
    """Calls are made in the order in which they come; all that come before the loop looks cost one
    wake-up together."""

    __slots__ = ("_calls", "_due", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._due = False

    def post(self, call: Callable[..., object], *args: Any) -> bool:
        """Have it called; False when the loop is closed, and then nobody will."""
        self._calls.append((call, args))
        if self._due:  # set before the loop looks, and taken back before it takes anything out
            return True
        self._due = True
        try:
            self.loop.call_soon_threadsafe(self.empty)
        except RuntimeError:  # closed
            self._due = False
            return False
        return True

    def empty(self) -> None:
        """Make the calls that are there. Two threads may, when the loop is closed."""
        self._due = False
        for _ in range(len(self._calls)):
            try:
                call, args = self._calls.popleft()
            except IndexError:
                return
            try:
                call(*args)
            except Exception:
                _log.exception("a call on the loop's thread raised")


_of_thread = threading.local()


def mailbox_here() -> Mailbox:
    """That of the event loop that runs here: a thread has one at a time."""
    loop = asyncio.get_running_loop()
    found: Mailbox | None = getattr(_of_thread, "mailbox", None)
    if found is None or found.loop is not loop:
        found = _of_thread.mailbox = Mailbox(loop)
    return found
