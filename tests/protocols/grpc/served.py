"""Calls of methods made for the test, over real sockets. Each method does what its name says."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from inferd.errors import InvalidRequest, ModelNotFound
from inferd.protocols.grpc.methods import CallContext, Method, Requests
from inferd.protocols.grpc.router import GrpcRouter
from inferd.protocols.http2.limits import Http2Limits
from inferd.protocols.http2.listener import Http2Listener

SERVICE = "test.Calls"
MOST = 1 << 20


class Calls:
    """The methods, and what happened in them."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.metadata: dict[bytes, bytes] = {}
        self.made = 0
        """Answers that `Count` has made."""

    def methods(self) -> tuple[Method, ...]:
        return (
            Method(f"/{SERVICE}/Echo", "unary", self.echo),
            Method(f"/{SERVICE}/Fail", "unary", self.fail),
            Method(f"/{SERVICE}/Break", "unary", self.break_down),
            Method(f"/{SERVICE}/Wait", "unary", self.wait),
            Method(f"/{SERVICE}/Count", "server_stream", self.count),
            Method(f"/{SERVICE}/EchoEach", "bidi", self.echo_each),
            Method(f"/{SERVICE}/FailLater", "bidi", self.fail_later),
            Method(f"/{SERVICE}/Metadata", "unary", self.tell_metadata),
            Method(f"/{SERVICE}/CountThenFail", "server_stream", self.count_then_fail),
            Method(f"/{SERVICE}/Total", "bidi", self.total),
            Method(f"/{SERVICE}/Early", "bidi", self.early),
            Method(f"/{SERVICE}/FailEarly", "bidi", self.fail_early),
        )

    async def echo(self, data: Any, context: CallContext) -> bytes:
        self.metadata = dict(context.metadata)
        context.set_trailing(b"x-text", b"text")
        context.set_trailing(b"x-data-bin", b"\x00\xff\x10")
        return bytes(data)

    async def fail(self, data: Any, context: CallContext) -> bytes:
        context.set_trailing(b"x-text", b"why")
        raise ModelNotFound(bytes(data).decode())

    async def break_down(self, data: Any, context: CallContext) -> bytes:
        raise ZeroDivisionError("of the handler's own")

    async def wait(self, data: Any, context: CallContext) -> bytes:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b""

    async def count(self, requests: Requests, context: CallContext) -> AsyncGenerator[bytes, None]:
        """So many answers of so many bytes as the request says: `3 100`."""
        async for data in requests:
            count, size = map(int, bytes(data).split())
        try:
            for _ in range(count):
                self.made += 1
                yield bytes(size)
        except GeneratorExit:
            self.cancelled.set()
            raise

    async def echo_each(
        self, requests: Requests, context: CallContext
    ) -> AsyncGenerator[bytes, None]:
        self.begun.set()
        try:
            async for data in requests:
                yield bytes(data)
        finally:
            self.cancelled.set()

    async def fail_later(
        self, requests: Requests, context: CallContext
    ) -> AsyncGenerator[bytes, None]:
        async for data in requests:
            yield bytes(data)
            raise InvalidRequest("one is enough: 100 % ☃")

    async def tell_metadata(self, data: Any, context: CallContext) -> bytes:
        """What the client has sent beside its message, and whether it waits for ever."""
        own = {name: value for name, value in context.metadata.items() if name[:2] == b"x-"}
        return repr((sorted(own.items()), context.deadline_ns > 0)).encode()

    async def count_then_fail(
        self, requests: Requests, context: CallContext
    ) -> AsyncGenerator[bytes, None]:
        async for answer in self.count(requests, context):
            yield answer
        context.set_trailing(b"x-data-bin", bytes(range(256)))
        raise InvalidRequest("that was all")

    async def total(self, requests: Requests, context: CallContext) -> AsyncGenerator[bytes, None]:
        """One answer, once the client has sent all."""
        sizes = [len(data) async for data in requests]
        context.set_trailing(b"x-count", b"%d" % len(sizes))
        yield b"%d" % sum(sizes)

    async def early(self, requests: Requests, context: CallContext) -> AsyncGenerator[bytes, None]:
        """Answers and ends, whatever the client still sends."""
        yield b"enough"

    async def fail_early(
        self, requests: Requests, context: CallContext
    ) -> AsyncGenerator[bytes, None]:
        if context is not None:
            raise ModelNotFound("at once")
        yield b"so that it is a generator"


class Served:
    """A listener with those methods."""

    def __init__(self, limits: Http2Limits | None = None) -> None:
        self.calls = Calls()
        self.router = GrpcRouter(self.calls.methods(), {}, MOST)
        self.listener = Http2Listener(self.router, limits or Http2Limits())
        self.address = ""
        self.port = 0

    def count(self, method: str, status: str) -> int:
        return self.router.calls.get((f"/{SERVICE}/{method}", status), 0)


@asynccontextmanager
async def served(limits: Http2Limits | None = None) -> AsyncIterator[Served]:
    made = Served(limits)
    host, made.port = await made.listener.start("127.0.0.1", 0)
    made.address = f"{host}:{made.port}"
    try:
        yield made
    finally:
        await made.listener.stop()
