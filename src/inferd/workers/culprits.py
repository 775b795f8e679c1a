"""Requests that end workers. Pure.

A request that has ended two is not run again, whoever sends it: a client that retries would
otherwise keep a model down.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from inferd.types.tensor import Array

DEADLY: Final = 2
MAX_KNOWN: Final = 1024


class Culprits:
    """What is known of requests that ended workers, the last MAX_KNOWN of them."""

    def __init__(self) -> None:
        self._deaths: OrderedDict[bytes, int] = OrderedDict()
        self._suspects: set[bytes] = set()

    def accuse(self, method: str, arrays: Sequence[Array]) -> bool:
        """A worker has ended while it ran this request alone; whether it is refused from now on."""
        mark = _fingerprint(method, arrays)
        deaths = self._deaths.get(mark, 0) + 1 + (mark in self._suspects)
        self._deaths[mark] = deaths
        self._suspects.discard(mark)
        self._deaths.move_to_end(mark)
        if len(self._deaths) > MAX_KNOWN:
            self._deaths.popitem(last=False)
        return deaths >= DEADLY

    def suspect(self, method: str, arrays: Sequence[Array]) -> None:
        """A worker has ended while it ran this request among others; it will now be run alone."""
        self._suspects.add(_fingerprint(method, arrays))

    def acquit(self, method: str, arrays: Sequence[Array]) -> None:
        """A suspect was run alone, and the worker lives."""
        self._suspects.discard(_fingerprint(method, arrays))

    @property
    def any(self) -> bool:
        """Whether requests have to be looked at one by one."""
        return bool(self._deaths)

    def condemned(self, method: str, arrays: Sequence[Array]) -> bool:
        """Whether a request has ended workers often enough."""
        if not self._deaths:  # nearly always: nothing is hashed
            return False
        return self._deaths.get(_fingerprint(method, arrays), 0) >= DEADLY


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
