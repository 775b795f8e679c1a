"""What the unfinished requests of one connection may take. Pure.

A client may have many streams open and a large message half sent on each. Up to a limit all of them
are asked for more; beyond it only the oldest is, so that it can end, and the others wait with what
their windows held.
"""

from typing import Protocol


class Sender(Protocol):
    """A stream whose client sends."""

    def consumed(self, n: int) -> None:
        """Ask for so many bytes more."""


class Intake:
    """Who of a connection's streams is asked for more."""

    __slots__ = ("_held", "_limit", "_unfinished")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._unfinished: dict[Sender, list[int]] = {}
        """In order of their beginning: bytes that are here, and of those not yet asked for anew."""

    def took(self, stream: Sender, count: int) -> None:
        """Bytes of an unfinished request have come."""
        entry = self._unfinished.setdefault(stream, [0, 0])
        entry[0] += count
        entry[1] += count
        self._held += count
        if self._held <= self._limit or stream is next(iter(self._unfinished)):
            self._ask(stream, entry)

    def ended(self, stream: Sender) -> None:
        """The stream's request is whole, or will never be."""
        entry = self._unfinished.pop(stream, None)
        if entry is None:
            return
        self._held -= entry[0]
        if entry[1]:
            stream.consumed(entry[1])
        for place, (other, waiting) in enumerate(self._unfinished.items()):
            if place and self._held > self._limit:
                break
            if waiting[1]:
                self._ask(other, waiting)

    def _ask(self, stream: Sender, entry: list[int]) -> None:
        stream.consumed(entry[1])
        entry[1] = 0
