"""A bar on a terminal that shows how far the loading of language models is.

It refuses to know what is loaded: names and bytes come from whoever loads, from any thread.
"""

import threading
import time
from typing import Final, TextIO

from inferd.cli.group import one_line

WIDTH: Final = 30
EVERY_S: Final = 0.1


class LoadBar:
    """One line that is written over and over, for the model that said something last."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._drawn_s = 0.0
        self._shown = False
        self._closed = False

    def update(self, name: str, done: int, total: int) -> None:
        """`done` of `total` bytes of a model are loaded."""
        now_s = time.monotonic()
        with self._lock:
            ended = done >= total
            if self._closed or (now_s - self._drawn_s < EVERY_S and not ended):
                return
            self._drawn_s = now_s
            self._shown = not ended
            self._file.write("\r\x1b[K" + ("" if ended else bar_text(name, done, total)))
            self._file.flush()

    def close(self) -> None:
        """Take the bar away; what comes later is not shown."""
        with self._lock:
            self._closed = True
            if self._shown:
                self._file.write("\r\x1b[K")
                self._file.flush()


def bar_text(name: str, done: int, total: int) -> str:
    """`loading NAME [#####-----] 1.2 of 2.5 GB`."""
    filled = WIDTH * done // total if total else WIDTH
    bar = "#" * filled + "-" * (WIDTH - filled)
    return f"loading {one_line(name)} [{bar}] {done / 1e9:.1f} of {total / 1e9:.1f} GB"
