"""What comes piece by piece from the loop's thread, read on any other thread or event loop."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from inferd.embedded.mailbox import mailbox_here
from inferd.errors import InferdError

if TYPE_CHECKING:
    from inferd.core import Core
    from inferd.embedded.core_thread import CoreThread

T = TypeVar("T")

PARTS_AHEAD: Final = 32
"""Parts of a stream that wait for their reader before the model is held up."""

Open = Callable[["Core"], AsyncGenerator[Any, None]]
"""Opens a stream, on the loop's thread."""


class Feed:
    """One stream that was handed over: `put` gets each part, then None or an error."""

    __slots__ = ("left", "open", "put", "room", "task")

    def __init__(self, open: Open, put: Callable[[Any], object]) -> None:
        self.open = open
        self.put = put
        self.room = asyncio.Semaphore(PARTS_AHEAD)
        self.task: asyncio.Task[None] | None = None
        self.left = False


def parts(thread: "CoreThread", open: Open, make: Callable[[Any], T]) -> Generator[T, None, None]:
    """What is made of each part; an error among them ends it and is raised."""
    arrived: SimpleQueue[Any] = SimpleQueue()
    feed = Feed(open, arrived.put)
    thread.feed(feed)
    ended = False
    try:
        while (part := arrived.get()) is not None:
            yield make(_good(part))
            thread.took(feed)
        ended = True
    finally:
        if not ended:
            thread.drop(feed)


async def aparts(
    thread: "CoreThread", open: Open, make: Callable[[Any], T]
) -> AsyncGenerator[T, None]:
    """The same on the caller's own event loop."""
    mailbox = mailbox_here()
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    feed = Feed(open, lambda part: mailbox.post(arrived.put_nowait, part))
    thread.feed(feed)
    ended = False
    try:
        while (part := await arrived.get()) is not None:
            yield make(_good(part))
            thread.took(feed)
        ended = True
    finally:
        if not ended:
            thread.drop(feed)


def _good(part: Any) -> Any:
    if isinstance(part, InferdError):
        raise part
    return part
