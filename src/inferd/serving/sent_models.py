"""Models that came with a request: who still has use for their files, which are removed after the
last. Runs on the loop's thread; what writes and removes runs beside it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from inferd.repository.sent_files import SentFiles, remove_forsaken

OffLoop = Callable[[Callable[[], Any]], Awaitable[Any]]


class SentModels:
    """The files that are on disk now."""

    def __init__(self, off_loop: OffLoop) -> None:
        self._off_loop = off_loop
        self._kept: set[SentFiles] = set()

    @asynccontextmanager
    async def laid_out(self, files: Mapping[str, bytes]) -> AsyncIterator[SentFiles]:
        """Files on disk, kept at least this long; raises InvalidRequest."""
        sent: SentFiles = await self._off_loop(lambda: SentFiles(files))
        self._kept.add(sent)
        sent.hold()
        try:
            yield sent
        finally:
            await self.let_go(sent)

    async def let_go(self, sent: SentFiles | None) -> None:
        """One less has use for them."""
        if sent is not None and sent.let_go():
            self._kept.discard(sent)
            await self._off_loop(sent.remove)

    async def remove_forsaken(self) -> None:
        """What servers have left behind that were killed goes."""
        await self._off_loop(remove_forsaken)

    def remove(self) -> None:
        """None of them outlives the server; blocks."""
        for sent in self._kept:
            sent.remove()
