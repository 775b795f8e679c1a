"""Talks nonsense to the router: `python -m protocols.grpc.fuzz --minutes 10`, from tests/.

Conversations of HTTP/2 as its own fuzzer has them, whose bodies are messages of gRPC, whole, in
pieces, compressed, wrong, for methods that answer, fail, wait and stream. Nothing may be raised;
when the client has gone, no task and no memory is left, and each call was counted once at most.
A failure prints the seed that brings it again (`--seed`).
"""

import argparse
import asyncio
import gzip
import logging
import random
import time
import traceback
import zlib

from inferd.protocols.grpc.framing import framed
from inferd.protocols.grpc.router import GrpcRouter
from inferd.protocols.http2.connection import Http2Connection
from inferd.protocols.http2.frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame
from inferd.protocols.http2.headers import Fields
from inferd.protocols.http2.stream import Http2Stream, StreamSink
from protocols.grpc.served import SERVICE, Calls
from protocols.http2.client import frames_of
from protocols.http2.conversations import Talk
from protocols.http2.fuzz import LIMITS, damaged

MOST = 20_000
METHODS = ("Echo", "Fail", "Wait", "Count", "EchoEach", "FailLater", "Metadata", "CountThenFail",
           "Total", "Early", "FailEarly", "Nope")  # fmt: skip
TURNS = 6


class GrpcTalk(Talk):
    """A client of gRPC that mostly keeps to the rules."""

    def opens(self) -> None:
        rng = self.rng
        pairs = [
            (b":method", b"POST"), (b":scheme", b"http"),
            (b":path", f"/{SERVICE}/{rng.choice(METHODS)}".encode()),
            (b"content-type", b"application/grpc"), (b"te", b"trailers"),
        ]  # fmt: skip
        more = (
            (b"grpc-timeout", rng.choice((b"0S", b"1n", b"1m", b"1H", b"x", b"999999999S"))),
            (b"grpc-encoding", rng.choice((b"gzip", b"deflate", b"identity", b"br"))),
            (b"grpc-accept-encoding", rng.choice((b"gzip", b"deflate, gzip", b",", b""))),
            (b"x-data-bin", rng.choice((b"AA", b"AA==", b"!", b"", b",", b"A"))),
            (b"x-request-id", rng.choice((b"mine", b"a b", b"x" * 200))),
        )
        pairs += [pair for pair in more if rng.random() < 0.2]
        stream_id = self.next_id
        self.next_id += 2
        flags = END_STREAM if rng.random() < 0.05 else 0
        if not flags:
            self.open.append(stream_id)
        self.sent.append(frame(HEADERS, flags | END_HEADERS, stream_id, self.encoder.encode(pairs)))

    def sends(self) -> None:
        if not self.open:
            return
        rng = self.rng
        stream_id = rng.choice(self.open)
        payload = b"".join(self.message() for _ in range(rng.choice((1, 1, 1, 0, 2, 6))))
        if rng.random() < 0.2:
            payload = payload[: rng.randrange(len(payload) + 1)]
        ends = rng.random() < 0.6
        if ends:
            self.open.remove(stream_id)
        while True:
            part = payload[: rng.choice((1, 4, 5, 100, 16_000))]
            payload = payload[len(part) :]
            last = not payload
            flags = END_STREAM if last and ends else 0
            self.sent.append(frame(DATA, flags, stream_id, part))
            if last:
                return

    def message(self) -> bytes:
        rng = self.rng
        plain = rng.choice((b"", b"3 10", b"2 30000", b"0 0", b"\xff", b"a" * rng.randrange(3000)))
        way = rng.randrange(8)
        if way == 0:
            small = rng.choice((gzip.compress, zlib.compress))(plain + bytes(rng.randrange(30_000)))
            return b"\1" + len(small).to_bytes(4, "big") + small
        if way == 1:
            size = rng.choice((0, 1, MOST, MOST + 1, 2**32 - 1))
            return bytes((rng.choice((0, 1, 2, 255)),)) + size.to_bytes(4, "big") + plain
        return framed(plain)


class Errors(logging.Handler):
    """Faults that are logged, but for those of the methods, which do not like all they get."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        if raised is not None:
            where = traceback.extract_tb(raised.__traceback__)[-1].filename
            if where.endswith("served.py"):
                return
        self.found.append(self.format(record))


ERRORS = Errors()


async def life(seed: int) -> None:
    """One client's life; raises what should not be."""
    rng = random.Random(seed)
    calls = Calls()
    router = GrpcRouter(calls.methods(), {}, MOST)
    accepted = 0

    def accept(stream: Http2Stream, fields: Fields) -> StreamSink:
        nonlocal accepted
        accepted += 1
        return router(stream, fields)

    connection = Http2Connection(LIMITS, accept, 0.0)
    now_s, output = 0.0, b""
    talk = GrpcTalk(rng)
    pieces = talk.say(rng.randrange(1, 40))
    if rng.random() < 0.7:
        pieces = damaged(pieces, rng)
    for piece in pieces:
        act = rng.randrange(60)
        if act == 0:
            connection.pause()
        elif act == 1:
            connection.resume()
        elif act == 2:
            connection.drain(now_s)
        elif act < 6:
            now_s += rng.choice((0.0, 0.25, 5.0))
            connection.tick(now_s)
        connection.receive(piece, now_s)
        for _ in range(rng.randrange(TURNS)):
            await asyncio.sleep(0)
        output += b"".join(connection.take())
    if not output.startswith(b"HTTP/1.1"):
        frames_of(output)
    connection.lost()
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
    assert not connection.streams
    assert connection.output.queued == 0
    assert connection.shared is None or connection.shared._held == 0
    assert sum(router.calls.values()) <= accepted
    assert not ERRORS.found, ERRORS.found[0]


def run(seed: int) -> None:
    """See `life`."""
    asyncio.run(life(seed))


def main() -> None:
    """Run for a while, and say how much was run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="run this one alone")
    options = parser.parse_args()
    for name in ("inferd", "asyncio"):
        logging.getLogger(name).addHandler(ERRORS)
    if options.seed is not None:
        run(options.seed)
        return
    seed = first = time.time_ns() % 2**40
    end_s = time.monotonic() + options.minutes * 60
    while time.monotonic() < end_s:
        try:
            run(seed)
        except BaseException:
            print(f"seed {seed}")
            raise
        seed += 1
    print(f"{seed - first} conversations")


if __name__ == "__main__":
    main()
