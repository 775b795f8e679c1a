"""What of freed memory stays with the process, and when it is given back to the system: by itself,
glibc does either too early or never.

On other C libraries there is nothing to ask, and nothing is done.
"""

import ctypes
import gc
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_MMAP_THRESHOLD_BYTES = 32 << 20
"""Blocks below are taken from the heap, where their pages are used again; 32 MiB is the most that
glibc allows. A page that is new costs the system a quarter of a microsecond, on a virtual machine
several: more than all else that happens to a tensor of megabytes."""

_TRIM_THRESHOLD_BYTES = 64 << 20
"""So much may lie free at the end of the heap."""


def keep_freed_memory() -> None:
    """Hold both thresholds: left alone, glibc takes every large block from the system anew until
    the first is freed, and then raises what it keeps with every larger one. Call it before anything
    is loaded."""
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)


def trim_memory() -> None:
    """Give back all that has been freed, wherever it lies; blocks for some milliseconds."""
    gc.collect()
    malloc_trim = getattr(_libc(), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def _libc() -> Any:
    return ctypes.CDLL(None)
