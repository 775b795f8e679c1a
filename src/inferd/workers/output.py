"""What a model prints, on standard output and standard error, as lines of the server's log."""

import asyncio
from collections.abc import Callable
from typing import Final

MAX_LINE_BYTES: Final = 1 << 14


class OutputLines(asyncio.Protocol):
    """Reads a pipe; `write` takes each line, without its end and cut where it is very long."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._begun = b""

    def data_received(self, data: bytes) -> None:
        """Lines, and the beginning of one."""
        *lines, rest = (self._begun + data).split(b"\n")
        for line in lines:
            self._tell(line)
        while len(rest) > MAX_LINE_BYTES:
            self._tell(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._begun = rest

    def eof_received(self) -> None:
        """What was begun is all there is."""
        if self._begun:
            self._tell(self._begun)
        self._begun = b""

    def _tell(self, line: bytes) -> None:
        text = line[:MAX_LINE_BYTES].decode("utf-8", "backslashreplace").rstrip("\r")
        if text:
            self._write(text)
