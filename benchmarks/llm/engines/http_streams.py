"""An engine behind HTTP: its server as a process, a thread for each stream, so that a token is seen
when it comes. What is asked and read is the engine's own."""

import json
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

READY_WITHIN_S = 120.0


class HttpStreams:
    """An Engine but for `add`, which calls `stream`.

    `command` is told the port. `tokens` gives how many tokens a request has after an event.
    """

    def __init__(
        self, command: Callable[[int], list[str]], ready: str, path: str,
        tokens: Callable[[dict[str, Any], int], int],
    ) -> None:  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._server = subprocess.Popen(command(port), stdout=sys.stderr)
        self.process_id = self._server.pid
        self._url = f"http://127.0.0.1:{port}"
        self._path = path
        self._tokens = tokens
        self._news: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        self._open = 0
        self._wait_ready(ready)

    def _wait_ready(self, ready: str) -> None:
        end = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                urllib.request.urlopen(self._url + ready).close()
                return
            except (urllib.error.URLError, ConnectionError):
                if self._server.poll() is not None or time.monotonic() > end:
                    self._server.kill()
                    raise
                time.sleep(0.02)

    def stream(self, id: str, body: dict[str, Any]) -> None:
        """Ask, and go on reading in a thread."""
        self._open += 1
        threading.Thread(target=self._read, args=(id, body), daemon=True).start()

    def _read(self, id: str, body: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + self._path, json.dumps(body).encode(), headers)
        seen = 0
        try:
            with urllib.request.urlopen(request) as answer:
                for line in answer:
                    if line.startswith(b"data: {"):
                        now = self._tokens(json.loads(line[6:]), seen)
                        if now > seen:
                            self._news.put((id, now - seen))
                        seen = now
        finally:
            self._news.put((id, 0))

    def step(self) -> list[str]:
        """What one stream got."""
        id, count = self._news.get()
        self._open -= count == 0
        return [id] * count

    @property
    def has_work(self) -> bool:
        """Whether a stream is open."""
        return self._open > 0

    def close(self) -> None:
        """End the server."""
        self._server.terminate()
        self._server.wait()
