"""What of freed memory stays with the process, and when it is given back to the system: by itself,
glibc does either too early or never.

On other C libraries there is nothing to ask, and nothing is done.
"""

import ctypes
import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_PASSING_BYTES = 32 << 20
"""Blocks below are taken from the heap, where their pages are used again; 32 MiB is the most that
glibc allows. A page that is new costs the system a quarter of a microsecond, on a virtual machine
several: more than all else that happens to a tensor of megabytes."""

_LASTING_BYTES = 128 << 10
"""The same for blocks that last: larger ones are taken from the system, and go back to it as soon
as they are freed, whatever lies behind them."""

_TRIM_THRESHOLD_BYTES = 64 << 20
"""So much may lie free at the end of the heap."""


def keep_freed_memory() -> None:
    """Hold both thresholds: left alone, glibc takes every large block from the system anew until
    the first is freed, and then raises what it keeps with every larger one. Call it before anything
    is loaded."""
    _mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
    _mallopt(_M_MMAP_THRESHOLD, _PASSING_BYTES)


@contextmanager
def lasting_memory() -> Iterator[None]:
    """While a model is loaded: what it takes now it gives back when it is unloaded. Passing blocks
    of other threads are taken the slow way meanwhile."""
    _lasting.enter()
    try:
        yield
    finally:
        _lasting.leave()


class _Lasting:
    """How many loads there are at the moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def enter(self) -> None:
        with self._lock:
            self._count += 1
            _mallopt(_M_MMAP_THRESHOLD, _LASTING_BYTES)

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                _mallopt(_M_MMAP_THRESHOLD, _PASSING_BYTES)


_lasting = _Lasting()


def trim_memory() -> None:
    """Give back all that has been freed, wherever it lies; blocks for some milliseconds."""
    gc.collect()
    malloc_trim = getattr(_libc(), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def _mallopt(option: int, value: int) -> None:
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        mallopt(option, value)


def _libc() -> Any:
    return ctypes.CDLL(None)
