"""A Connection: one request after another to a server that streams, each timed as it comes.

It reads no text: of most events it looks at the time alone. It refuses to know what is sent.
"""

import asyncio
import contextlib
import json
import ssl
import time
from typing import Any, cast

import httptools

from inferd.cli.address import split_url
from inferd.cli.openai_client import error_text
from inferd.cli.traffic.trace import Trace

_LONGEST_SAID = 300


class Target:
    """Where requests go: an address, and the head of every request."""

    def __init__(self, url: str, path: str, headers: dict[str, str]) -> None:
        where = split_url(url)
        self.host = where.hostname or ""
        self.ssl = ssl.create_default_context() if where.scheme == "https" else None
        self.port = where.port or (443 if self.ssl else 80)
        lines = [f"POST {path} HTTP/1.1", f"Host: {where.netloc}", "Accept: text/event-stream"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._head = "\r\n".join(lines).encode() + b"\r\nContent-Length: "

    def request(self, body: bytes) -> bytes:
        """A whole request."""
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    async def connect(self) -> "Connection":
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self.host, self.port, ssl=self.ssl)
        return connection


class Connection(asyncio.Protocol):
    """One request at a time; `usable` says whether there can be another."""

    def __init__(self) -> None:
        self.usable = False
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._done: asyncio.Future[None] | None = None
        self._trace = Trace(0.0)
        self._now_s = 0.0
        self._rest = b""
        self._said_done = False

    async def ask(self, request: bytes, trace: Trace) -> None:
        """Send a request and fill its trace; what goes wrong stands there as well."""
        self._parser = httptools.HttpResponseParser(self)
        self._trace, self._now_s = trace, 0.0
        self._rest, self._said_done = b"", False
        self._done = asyncio.get_running_loop().create_future()
        if self._transport is None or self._transport.is_closing():
            self._end("the connection was closed")
        else:
            self._transport.write(request)
        try:
            await self._done
        finally:
            if not self._done.done() or self._done.cancelled():
                self.close()
        trace.end_s = self._now_s or time.perf_counter()

    def close(self) -> None:
        """Leave; a request that runs is aborted."""
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    # -- asyncio's calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by behaviour, not by class.
        self._transport, self.usable = cast("asyncio.Transport", transport), True

    def data_received(self, data: bytes) -> None:
        self._now_s = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"the answer is not HTTP: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._said_done:  # the answer had no length: this is its end
            self.on_message_complete()
        else:
            why = f": {exc}" if exc else ""
            self._end(f"the connection was closed before the answer was whole{why}")

    # -- the parser's calls --------------------------------------------------------------------

    def on_body(self, data: bytes) -> None:
        if self._parser.get_status_code() != 200:
            self._rest += data
            return
        whole = self._rest + data
        if b"\r" in whole:
            whole = whole.replace(b"\r\n", b"\n")
        *events, self._rest = whole.split(b"\n\n")
        for event in events:
            self._event(event)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self.usable = self.usable and self._parser.should_keep_alive()
        if status != 200:
            self._end(f"status {status}: {_said(self._rest)}")
        elif not self._trace.events:
            self._end(self._trace.error or "the answer had no tokens")
        else:
            self._end(self._trace.error)

    def _event(self, event: bytes) -> None:
        if not event.startswith(b"data:"):
            return
        if event.endswith(b"[DONE]"):
            self._said_done = True
            return
        if b'"error"' in event:
            self._trace.error = self._trace.error or _said(event[5:])
            return
        if b'"usage"' in event and not self._count(event):
            return
        trace = self._trace
        if trace.events:
            trace.gaps_s.append(self._now_s - trace.last_s)
        else:
            trace.first_s = self._now_s
        trace.events += 1
        trace.last_s = self._now_s

    def _count(self, event: bytes) -> bool:
        """Take the counts out of an event that may have some; whether it has tokens, too."""
        with contextlib.suppress(ValueError):
            value = json.loads(event[5:])
            usage = value.get("usage") or {}
            details = usage.get("prompt_tokens_details") or {}
            self._trace.prompt_tokens = usage.get("prompt_tokens") or self._trace.prompt_tokens
            self._trace.output_tokens = usage.get("completion_tokens") or self._trace.output_tokens
            self._trace.cached_tokens = details.get("cached_tokens") or self._trace.cached_tokens
            return bool(value.get("choices"))
        return False

    def _end(self, error: str = "") -> None:
        if self._done is not None and not self._done.done():
            self._trace.error = self._trace.error or error
            self._done.set_result(None)


def _said(body: bytes) -> str:
    try:
        return error_text(json.loads(body))[:_LONGEST_SAID]
    except ValueError:
        return body[:_LONGEST_SAID].decode(errors="replace").strip()
