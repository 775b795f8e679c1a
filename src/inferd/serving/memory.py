"""Memory that models leave behind, given back to the system: glibc keeps it otherwise.

On other C libraries there is nothing to ask, and nothing is done.
"""

import ctypes
import gc
from typing import Any

_M_TRIM_THRESHOLD = -1
_TRIM_THRESHOLD_BYTES = 1 << 20


def keep_trim_threshold() -> None:
    """Hold the size from which freed memory at the end of the heap is given back: left alone, glibc
    raises it with every large block that is freed, until models of tens of megabytes stay. Call it
    before anything is loaded."""
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)


def trim_memory() -> None:
    """Give back what has been freed; blocks for some milliseconds."""
    gc.collect()
    malloc_trim = getattr(_libc(), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def _libc() -> Any:
    return ctypes.CDLL(None)
