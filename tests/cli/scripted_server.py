"""A server that answers every request with the bytes it was given, for answers that inferd never
gives: broken ones, and those of other servers. It keeps what it was asked.
"""

import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class ScriptedServer(http.server.ThreadingHTTPServer):
    """`answers` maps a path to everything that is sent, head included; the connection then ends."""

    daemon_threads = True

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ScriptedServer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, dict(self.headers), body))
        self.wfile.write(self.server.answers.get(self.path, b"HTTP/1.1 404 Not Found\r\n\r\n"))
        self.close_connection = True

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def scripted(answers: Mapping[str, bytes]) -> Iterator[ScriptedServer]:
    """Serve them for a while."""
    with ScriptedServer(answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def reply(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A whole answer that says how long it is."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def events(*data: bytes, end: bytes = b"\n\n") -> bytes:
    """A whole answer of server-sent events."""
    return reply(b"".join(b"data: " + one + end for one in data), kind="text/event-stream")


MODELS = reply(b'{"object": "list", "data": [{"id": "m"}]}')
