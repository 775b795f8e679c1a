"""Requests that end workers. Pure.

A request that has ended two is not run again, whoever sends it: a client that retries would
otherwise keep a model down.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, TypeVar

from inferd.types.tensor import Array

T = TypeVar("T")

DEADLY: Final = 2
MAX_KNOWN: Final = 1024


class Culprits:
    """What is known of requests that ended workers, the last MAX_KNOWN of them, and of as many that
    may have."""

    def __init__(self) -> None:
        self._deaths: OrderedDict[bytes, int] = OrderedDict()
        self._suspects: OrderedDict[bytes, None] = OrderedDict()

    def accuse(self, method: str, arrays: Sequence[Array]) -> bool:
        """A worker has ended while it ran this request alone; whether it is refused from now on."""
        mark = _fingerprint(method, arrays)
        deaths = self._deaths.get(mark, 0) + 1 + (mark in self._suspects)
        self._suspects.pop(mark, None)
        _note(self._deaths, mark, deaths)
        return deaths >= DEADLY

    def suspect(self, method: str, arrays: Sequence[Array]) -> None:
        """A worker has ended while it ran this request among others; it will now be run alone."""
        _note(self._suspects, _fingerprint(method, arrays), None)

    def acquit(self, method: str, arrays: Sequence[Array]) -> None:
        """A suspect was run alone, and the worker lives."""
        self._suspects.pop(_fingerprint(method, arrays), None)

    @property
    def any(self) -> bool:
        """Whether requests have to be looked at one by one."""
        return bool(self._deaths)

    def condemned(self, method: str, arrays: Sequence[Array]) -> bool:
        """Whether a request has ended workers often enough."""
        if not self._deaths:  # nearly always: nothing is hashed
            return False
        return self._deaths.get(_fingerprint(method, arrays), 0) >= DEADLY


def _note(known: OrderedDict[bytes, T], mark: bytes, value: T) -> None:
    known[mark] = value
    known.move_to_end(mark)
    if len(known) > MAX_KNOWN:
        known.popitem(last=False)


def _fingerprint(method: str, arrays: Sequence[Array]) -> bytes:
    digest = blake2b(method.encode(), digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        if array.dtype.hasobject:
            for text in array.ravel().tolist():
                digest.update(b"%d:" % len(text))
                digest.update(text)
        else:
            digest.update(array.tobytes())
    return digest.digest()
