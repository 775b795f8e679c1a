"""What a model keeps between the requests of one session. Pure: the time is an argument."""

from collections import OrderedDict
from typing import Any


class Session:
    """One caller's session with one instance: `state` is the author's to fill.

    A request without a session gets one of its own, with an empty `id`, which is not kept.
    """

    __slots__ = ("id", "last_used_s", "state")

    def __init__(self, id: str = "", last_used_s: float = 0.0) -> None:
        self.id = id
        self.state: dict[str, Any] = {}
        self.last_used_s = last_used_s

    def __repr__(self) -> str:
        return f"Session({self.id!r})"


class SessionStore:
    """The sessions of one instance: at most `limit`, the least recently used leaves first, and
    none that was unused for `idle_s` seconds."""

    def __init__(self, limit: int, idle_s: float) -> None:
        self._limit = limit
        self._idle_s = idle_s
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, id: str, now_s: float) -> Session:
        """The session of that id, a new one where none is kept; an empty id is never kept."""
        self._expire(now_s)
        if not id:
            return Session("", now_s)
        session = self._sessions.get(id)
        if session is None:
            session = self._sessions[id] = Session(id, now_s)
            if len(self._sessions) > self._limit:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(id)
        session.last_used_s = now_s
        return session

    def clear(self) -> None:
        """Forget all."""
        self._sessions.clear()

    def _expire(self, now_s: float) -> None:
        # Ordered by last use, so the idle ones are in front.
        while self._sessions:
            oldest = next(iter(self._sessions.values()))
            if now_s - oldest.last_used_s < self._idle_s:
                return
            del self._sessions[oldest.id]
