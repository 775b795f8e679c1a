"""Work that depends on how much a client sent: on the loop where it is little, else on a thread."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

OFFLOAD_BYTES = 16 * 1024
"""A body larger than this is decoded, and made into tokens, on a thread."""


async def offloaded(size: int, work: Callable[[], T], always: bool = False) -> T:
    """What `work` returns or raises; `size` is that of the request's body."""
    if size <= OFFLOAD_BYTES and not always:
        return work()
    return await asyncio.get_running_loop().run_in_executor(None, work)
