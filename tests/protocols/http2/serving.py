"""A listener on a real socket, on the loop that servers run on."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from inferd.protocols.http2.frames import ACK, PREFACE, SETTINGS, frame, settings
from inferd.protocols.http2.headers import encode_block
from inferd.protocols.http2.limits import Http2Limits
from inferd.protocols.http2.listener import Http2Listener
from inferd.protocols.http2.tls import ServerTls
from protocols.http2.client import LAST_BLOCK, Sink, frames_of

BEGIN = PREFACE + settings({}) + frame(SETTINGS, ACK, 0)
GRPC_HEAD = encode_block([(b":status", b"200"), (b"content-type", b"application/grpc")])


def on_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on a uvloop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(*args, **kwargs))

    return run


class GrpcEcho(Sink):
    """An echo for gRPC's clients: their prefixes come back with their messages."""

    def data(self, chunk: memoryview | bytes) -> None:
        super().data(chunk)
        self.stream.consumed(len(chunk))

    def ended(self) -> None:
        self.stream.answer(GRPC_HEAD, self.body, LAST_BLOCK)


class Served:
    """A listener whose streams are read by sinks of one kind."""

    def __init__(
        self,
        sink: Any = GrpcEcho,
        limits: Http2Limits | None = None,
        tls: ServerTls | None = None,
    ) -> None:
        self.sinks: list[Sink] = []
        self.sink = sink
        self.listener = Http2Listener(self.accept, limits or Http2Limits(), tls)
        self.port = 0

    def accept(self, stream: Any, fields: Any) -> Sink:
        made: Sink = self.sink(stream, fields)
        self.sinks.append(made)
        return made

    async def __aenter__(self) -> "Served":
        self.port = (await self.listener.start("127.0.0.1", 0))[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listener.stop()

    async def connected(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, **options)


async def until_frame(reader: asyncio.StreamReader, wanted: int) -> list[Any]:
    """Frames up to the first of a type."""
    output = b""
    async with asyncio.timeout(5):
        while True:
            head = await reader.readexactly(9)
            output += head + await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == wanted:
                return frames_of(output)
