"""An ASGI application behind our connection: everything that is not inference.

Source: ASGI specification 3.0, HTTP 2.4. The request's body is whole when the application starts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from inferd.protocols.http.connection import HttpConnection
from inferd.protocols.http.errors import error_body
from inferd.protocols.http.request import Headers, HttpRequest

_log = logging.getLogger("inferd.http")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class AsgiExchange:
    """One request answered by an ASGI application in a task of its own."""

    def __init__(
        self, app: AsgiApp, connection: HttpConnection, request: HttpRequest, request_id: bytes
    ) -> None:
        self._app = app
        self._connection = connection
        self._request = request
        self._request_id = request_id
        self._gone = asyncio.Event()
        self._body_sent = False
        self._status = 0
        self._headers: Headers = []
        self._chunked = False
        self._done = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """The client has left: `receive` says so."""
        self._gone.set()

    async def _run(self) -> None:
        try:
            await self._app(self._scope(), self._receive, self._send)
        except Exception:
            _log.exception("request failed", extra={"request_id": self._request_id.decode()})
            self._fail()
        else:
            if not self._done:
                self._fail()

    def _fail(self) -> None:
        if self._done or self._gone.is_set():
            return
        self._done = True
        if not self._chunked:
            message = f"internal error; see the server's log for request {self._request_id!r}"
            self._connection.respond(500, error_body(message), headers=self._id_header())
        else:
            self._connection.abort()

    def _id_header(self) -> Headers:
        return [(b"x-request-id", self._request_id)]

    def _scope(self) -> dict[str, Any]:
        path, _, query = self._request.head.target.partition(b"?")
        peer = self._connection.peer
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self._request.head.method.decode("latin-1"),
            "scheme": "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self._request.head.headers,
            "client": (peer[0], peer[1]) if isinstance(peer, tuple) else None,
            "server": None,
            "state": {"request_id": self._request_id.decode("latin-1")},
        }

    async def _receive(self) -> Message:
        if not self._body_sent:
            self._body_sent = True
            return {"type": "http.request", "body": self._request.body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._done or self._gone.is_set():
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [(bytes(n).lower(), bytes(v)) for n, v in message.get("headers", [])]
            return
        if message["type"] != "http.response.body":
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if not self._chunked and not more:
            self._done = True
            kind, headers = self._split_headers()
            self._connection.respond(self._status, body, kind, headers)
            return
        if not self._chunked:
            self._chunked = True
            kind, headers = self._split_headers()
            self._connection.write(self._connection.head(self._status, headers, kind, None))
        if body:
            self._connection.write(b"%x\r\n%b\r\n" % (len(body), body))
        if more:
            await self._connection.drained()
        else:
            self._done = True
            self._connection.write(b"0\r\n\r\n")
            self._connection.finish(self._status)

    def _split_headers(self) -> tuple[bytes, Headers]:
        """The content type, and the headers that the connection does not write itself."""
        own = (b"content-type", b"content-length", b"transfer-encoding", b"connection", b"date")
        kind = next((v for n, v in self._headers if n == b"content-type"), b"")
        return kind, [h for h in self._headers if h[0] not in own] + self._id_header()
