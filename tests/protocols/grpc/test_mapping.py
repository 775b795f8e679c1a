"""What "gRPC over HTTP2" asks of a server, by section: the frames of a client, and what comes."""

import asyncio
import base64
import gc
import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from grpc import StatusCode, aio

from inferd.protocols.grpc.framing import framed
from inferd.protocols.grpc.router import GrpcRouter
from inferd.protocols.http2.frames import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    frame,
    rst_stream,
)
from inferd.protocols.http2.headers import encode_block
from protocols.grpc.served import MOST, SERVICE, Calls
from protocols.http2.client import Client, Frame, Pairs, Sink, headers, request, resets_of
from protocols.http2.serving import Served as ServedSinks
from protocols.http2.serving import on_uvloop

WHOLE = END_HEADERS | END_STREAM


@dataclass(frozen=True)
class Answers:
    """Head, messages, trailers that end the stream with status 0."""

    messages: tuple[bytes, ...] = (b"abc",)
    head: dict[bytes, bytes | None] = field(default_factory=dict)
    """Fields that the head has; None are those that it has not."""
    last: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Fails:
    """Behind so many messages, or with headers alone, a status and words."""

    status: int
    words: bytes = b""
    messages: tuple[bytes, ...] | None = None
    """None: headers alone."""


@dataclass(frozen=True)
class IsNoCall:
    """A status of HTTP."""

    status: bytes


@dataclass(frozen=True)
class Resets:
    """Of stream 1, with a code."""

    code: int


Outcome = Answers | Fails | IsNoCall | Resets


def block(name: str = "Echo", **fields: bytes | None) -> bytes:
    return request(**{"_path": f"/{SERVICE}/{name}".encode(), **fields})


def data(payload: bytes, flags: int = END_STREAM) -> bytes:
    return frame(DATA, flags, 1, payload)


def call(name: str = "Echo", message: bytes = b"abc", **fields: bytes | None) -> bytes:
    return headers(1, block(name, **fields)) + data(framed(message))


def compressed(small: bytes, **fields: bytes | None) -> bytes:
    return headers(1, block(**fields)) + data(b"\1" + len(small).to_bytes(4, "big") + small)


def told(*pairs: tuple[bytes, bytes], deadline: bool = False) -> Answers:
    return Answers((repr((sorted(pairs), deadline)).encode(),))


def repeated(*pairs: tuple[bytes, bytes]) -> bytes:
    """A call with further fields, whose names may be the same."""
    fields: Pairs = list(pairs)
    return headers(1, block("Metadata") + encode_block(fields)) + data(framed(b""))


LONG = b"all work and no play" * 200

CASES: list[tuple[str, str, bytes, Outcome]] = [
    # Request headers
    ("Call-Definition", "POST", call(), Answers()),
    ("Call-Definition", "another method", call(_method=b"PUT"), IsNoCall(b"405")),
    ("Call-Definition", "a scheme of TLS", call(_scheme=b"https"), Answers()),
    ("Call-Definition", "no :authority", call(_authority=None), Answers()),
    ("Call-Definition", "no :path", headers(1, request(_path=None)), Resets(PROTOCOL_ERROR)),
    ("Path", "an unknown method", call("Nope"), Fails(12, b"unknown method Nope")),
    ("Path", "an unknown service", call(_path=b"/a.B/C"), Fails(12, b"unknown service a.B")),
    ("Path", "case matters", call("echo"), Fails(12, b"unknown method echo")),
    ("TE", "trailers", call(te=b"trailers"), Answers()),
    ("TE", "none", call(te=None), Answers()),
    ("TE", "another", call(te=b"gzip"), Resets(PROTOCOL_ERROR)),
    ("Timeout", "none", call("Metadata"), told()),
    ("Timeout", "hours", call("Metadata", grpc_timeout=b"1H"), told(deadline=True)),
    ("Timeout", "minutes", call("Metadata", grpc_timeout=b"1M"), told(deadline=True)),
    ("Timeout", "seconds", call("Metadata", grpc_timeout=b"1S"), told(deadline=True)),
    ("Timeout", "milliseconds", call("Metadata", grpc_timeout=b"99999999m"), told(deadline=True)),
    ("Timeout", "microseconds", call("Metadata", grpc_timeout=b"99999999u"), told(deadline=True)),
    ("Timeout", "nanoseconds", call("Wait", grpc_timeout=b"99n"), Fails(4, b"deadline")),
    ("Timeout", "that passes", call("Wait", grpc_timeout=b"1m"), Fails(4, b"deadline")),
    ("Timeout", "of nothing", call("Wait", grpc_timeout=b"0S"), Fails(4, b"deadline")),
    ("Timeout", "of a stream", headers(1, block("EchoEach", grpc_timeout=b"1m")),
     Fails(4, b"deadline")),
    ("Timeout", "of a stream that has begun",
     headers(1, block("EchoEach", grpc_timeout=b"50m")) + data(framed(b"a"), 0),
     Fails(4, b"deadline", (b"a",))),
    ("Timeout", "nine digits", call(grpc_timeout=b"123456789m"), Fails(3, b"grpc-timeout")),
    ("Timeout", "no unit", call(grpc_timeout=b"5"), Fails(3, b"grpc-timeout")),
    ("Content-Type", "+proto", call(content_type=b"application/grpc+proto"), Answers()),
    ("Content-Type", "parameters", call(content_type=b"application/grpc;v=1"), Answers()),
    ("Content-Type", "another codec", call(content_type=b"application/grpc+json"),
     IsNoCall(b"415")),
    ("Content-Type", "another", call(content_type=b"text/plain"), IsNoCall(b"415")),
    ("Content-Type", "none", call(content_type=None), IsNoCall(b"415")),
    ("Message-Type", "of any name", call(grpc_message_type=b"a.B"), Answers()),
    ("User-Agent", "of any kind", call("Metadata", user_agent=b"grpc-c++/1.0 (x)"), told()),
    ("Message-Encoding", "identity", call(grpc_encoding=b"identity"), Answers()),
    ("Message-Encoding", "gzip", compressed(gzip.compress(b"abc"), grpc_encoding=b"gzip"),
     Answers()),
    ("Message-Encoding", "deflate", compressed(zlib.compress(b"abc"), grpc_encoding=b"deflate"),
     Answers()),
    ("Message-Encoding", "unknown", call(grpc_encoding=b"br"), Fails(12, b"use gzip or deflate")),
    ("Message-Accept-Encoding", "the answer's is one of them",
     compressed(gzip.compress(LONG), grpc_encoding=b"gzip", grpc_accept_encoding=b"identity, gzip"),
     Answers((LONG,), {b"grpc-encoding": b"gzip"})),
    ("Message-Accept-Encoding", "none of ours",
     compressed(gzip.compress(LONG), grpc_encoding=b"gzip", grpc_accept_encoding=b"identity"),
     Answers((LONG,), {b"grpc-encoding": None})),
    ("Message-Accept-Encoding", "is answered with ours", call(),
     Answers(head={b"grpc-accept-encoding": b"identity,gzip,deflate"})),
    # Custom metadata
    ("Custom-Metadata", "ASCII", call("Metadata", x_a=b"some value"),
     told((b"x-a", b"some value"))),
    ("Custom-Metadata", "repeated", repeated((b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")),
     told((b"x-a", b"1,3"), (b"x-b", b"2"))),
    ("Custom-Metadata", "in upper case", repeated((b"X-A", b"1")), Resets(PROTOCOL_ERROR)),
    ("Custom-Metadata", "reserved names are not the application's",
     call("Metadata", grpc_previous_rpc_attempts=b"1", grpc_tags_bin=b"AA"), told()),
    ("Binary-Header", "with padding", call("Metadata", x_b_bin=b"AP8="),
     told((b"x-b-bin", b"\0\xff"))),
    ("Binary-Header", "without padding", call("Metadata", x_b_bin=b"AP8"),
     told((b"x-b-bin", b"\0\xff"))),
    ("Binary-Header", "empty", call("Metadata", x_b_bin=b""), told((b"x-b-bin", b""))),
    ("Binary-Header", "repeated", repeated((b"x-b-bin", b"AA"), (b"x-b-bin", b"AQ==")),
     told((b"x-b-bin", b"\0,\1"))),
    ("Binary-Header", "joined by a comma", call("Metadata", x_b_bin=b"AA,AQ=="),
     told((b"x-b-bin", b"\0,\1"))),
    ("Binary-Header", "not base64", call("Metadata", x_b_bin=b"!"),
     Fails(3, b"'x-b-bin' is not base64")),
    ("Binary-Header", "ours have no padding", call(),
     Answers(last={b"x-data-bin": base64.b64encode(b"\0\xff\x10").rstrip(b"=")})),
    # Length-Prefixed-Message
    ("Length-Prefixed-Message", "empty", call(message=b""), Answers((b"",))),
    ("Length-Prefixed-Message", "byte by byte",
     headers(1, block()) + b"".join(data(framed(b"abc")[at:][:1], 0) for at in range(8))
     + data(b""), Answers()),
    ("Length-Prefixed-Message", "in padded frames",
     headers(1, block()) + data(b"\3" + framed(b"abc")[:4] + bytes(3), PADDED)
     + data(b"\0" + framed(b"abc")[4:], PADDED | END_STREAM), Answers()),
    ("Length-Prefixed-Message", "several in a frame",
     headers(1, block("EchoEach")) + data(framed(b"a") + framed(b"") + framed(b"c")),
     Answers((b"a", b"", b"c"))),
    ("Length-Prefixed-Message", "borders of frames mean nothing",
     headers(1, block("EchoEach")) + data(framed(b"a") + framed(b"bc")[:6], 0) + data(b"c"),
     Answers((b"a", b"bc"))),
    ("Length-Prefixed-Message", "as large as is allowed", call("Total", bytes(60_000)),
     Answers((b"60000",))),
    ("Length-Prefixed-Message", "larger than is allowed",
     headers(1, block()) + data(b"\0" + (MOST + 1).to_bytes(4, "big"), 0),
     Fails(8, b"Received message larger than max")),
    ("Compressed-Flag", "0 though there is an encoding", call(grpc_encoding=b"gzip"), Answers()),
    ("Compressed-Flag", "1 without an encoding", compressed(gzip.compress(b"abc")),
     Fails(13, b"no grpc-encoding says with what")),
    ("Compressed-Flag", "1 and not compressed", compressed(b"abc", grpc_encoding=b"gzip"),
     Fails(13, b"not valid gzip data")),
    ("Compressed-Flag", "neither 0 nor 1", headers(1, block()) + data(b"\2" + bytes(4)),
     Fails(13, b"flag 2")),
    # EOS
    ("EOS", "on the last message", call(), Answers()),
    ("EOS", "on an empty frame behind it",
     headers(1, block()) + data(framed(b"abc"), 0) + data(b""), Answers()),
    ("EOS", "on trailers", headers(1, block()) + data(framed(b"abc"), 0)
     + headers(1, encode_block([(b"x-a", b"b")]), WHOLE), Answers()),
    ("EOS", "on the head, where no message is needed", headers(1, block("EchoEach"), WHOLE),
     Answers(())),
    ("EOS", "on the head, where one is", headers(1, block(), WHOLE),
     Fails(13, b"without a message")),
    ("EOS", "within a message", headers(1, block()) + data(framed(b"abc")[:-1]),
     Fails(13, b"in the middle of a message")),
    ("EOS", "within a message of a stream",
     headers(1, block("EchoEach")) + data(framed(b"a") + framed(b"abc")[:-1]),
     Fails(13, b"in the middle of a message", (b"a",))),
    ("EOS", "behind two messages where one is needed",
     headers(1, block()) + data(framed(b"a") * 2), Fails(13, b"one message, not several")),
    # Responses
    ("Response-Headers", "HTTP's status and the type", call(),
     Answers(head={b":status": b"200", b"content-type": b"application/grpc"})),
    ("Response-Headers", "come before an error that is behind messages",
     headers(1, block("FailLater")) + data(framed(b"a"), 0), Fails(3, b"one is enough", (b"a",))),
    ("Trailers-Only", "an error at once", call("Fail", b"why"), Fails(5, b"why")),
    ("Trailers-Only", "an error of a stream at once", headers(1, block("FailEarly")),
     Fails(5, b"at once")),
    ("Trailers", "an answer without messages", call("Count", b"0 0"), Answers(())),
    ("Trailers", "metadata of the application's", call(), Answers(last={b"x-text": b"text"})),
    ("Status", "a fault of the handler", call("Break"), Fails(13, b"internal error")),
    ("Status-Message", "percent-encoded", call("Fail", "é 100%\n".encode()),
     Fails(5, b"%C3%A9 100%25%0A")),
    ("Status-Message", "spaces at its ends", call("Fail", b" a b "), Fails(5, b"%20a b%20")),
    ("Status-Message", "empty", call("Fail", b""), Fails(5)),
]  # fmt: skip


class Served:
    """The methods behind a connection without a socket."""

    def __init__(self) -> None:
        self.calls = Calls()
        self.router = GrpcRouter(self.calls.methods(), {}, MOST)
        self.client = Client(sink=self.router).begin()  # type: ignore[arg-type]
        self.frames: list[Frame] = []

    def send(self, sent: bytes) -> None:
        self.frames += self.client.send(sent)

    async def until(self, what: Callable[[], bool]) -> None:
        """Give handlers their turns until something holds."""
        async with asyncio.timeout(5):
            while not what():
                await asyncio.sleep(0)
                self.frames += self.client.taken()

    async def ended(self) -> None:
        await self.until(lambda: 1 not in self.client.connection.streams)

    def outcome(self) -> tuple[list[dict[bytes, bytes]], list[bytes]]:
        """Fields of each header block of stream 1, and messages as they were before they were
        compressed."""
        body = b"".join(p for kind, _, sid, p in self.frames if kind == DATA and sid == 1)
        blocks = [dict(self.client.fields(p)) for kind, _, sid, p in self.frames
                  if kind == HEADERS and sid == 1]  # fmt: skip
        messages = []
        while body:
            end = 5 + int.from_bytes(body[1:5], "big")
            assert end <= len(body)
            messages.append(gzip.decompress(body[5:end]) if body[0] else body[5:end])
            body = body[end:]
        return blocks, messages


@pytest.mark.parametrize(
    ("sent", "outcome"), [case[2:] for case in CASES], ids=[f"{c[0]}: {c[1]}" for c in CASES]
)
@on_uvloop
async def test_gRPC_over_HTTP2(sent: bytes, outcome: Outcome) -> None:
    made = Served()
    made.send(sent)
    await made.ended()
    assert not made.client.connection.closing
    blocks, messages = made.outcome()
    if isinstance(outcome, Resets):
        assert (blocks, resets_of(made.frames)) == ([], [(1, outcome.code)])
        return
    ends = [kind for kind, flags, sid, _ in made.frames if sid == 1 and flags & END_STREAM
            and kind in (HEADERS, DATA)]  # fmt: skip
    assert ends == [HEADERS]
    last = blocks[-1]
    if isinstance(outcome, IsNoCall):
        assert (len(blocks), last[b":status"]) == (1, outcome.status)
        assert b"grpc-status" not in last
        return
    head = blocks[0]
    assert head[b":status"] == b"200"
    assert head[b"content-type"] == b"application/grpc"
    if isinstance(outcome, Fails):
        assert len(blocks) == (1 if outcome.messages is None else 2)
        assert messages == list(outcome.messages or ())
        assert last[b"grpc-status"] == b"%d" % outcome.status
        assert outcome.words in last[b"grpc-message"]
        return
    assert len(blocks) == 2
    assert messages == list(outcome.messages)
    assert last[b"grpc-status"] == b"0"
    assert b"grpc-message" not in last
    assert outcome.last.items() <= last.items()
    assert {name: head.get(name) for name in outcome.head} == outcome.head


# -- errors of HTTP/2, and connections -------------------------------------------------------------


@on_uvloop
async def test_a_reset_of_the_clients_cancels_the_call() -> None:
    for name in ("Wait", "EchoEach"):
        made = Served()
        made.send(call(name) if name == "Wait" else headers(1, block(name)))
        await made.until(made.calls.begun.is_set)
        made.send(rst_stream(1, CANCEL))
        await made.until(made.calls.cancelled.is_set)
        assert made.router.calls == {(f"/{SERVICE}/{name}", "CANCELLED"): 1}
        assert made.outcome() == ([], [])


@on_uvloop
async def test_nobody_complains_of_a_wrong_message_whose_client_has_left() -> None:
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    made = Served()
    made.send(compressed(b"not gzip", grpc_encoding=b"gzip") + rst_stream(1, CANCEL))
    await loop.shutdown_default_executor()
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


@on_uvloop
async def test_an_answer_to_a_client_that_still_sends_is_followed_by_no_error() -> None:
    made = Served()
    made.send(headers(1, block("Early")))
    await made.ended()
    assert made.outcome()[1] == [b"enough"]
    assert resets_of(made.frames) == [(1, NO_ERROR)]
    made.send(data(framed(b"late"), 0))
    assert not made.client.connection.closing


@on_uvloop
async def test_a_connection_that_drains_answers_what_it_has() -> None:
    made = Served()
    made.send(headers(1, block("EchoEach")))
    made.client.connection.drain(0.0)
    made.frames += made.client.taken()
    assert [kind for kind, *_ in made.frames][-2:] == [GOAWAY, PING]
    made.send(headers(3, block("EchoEach")))  # sent before the client heard of it
    (ping,) = [payload for kind, flags, _, payload in made.frames if kind == PING]
    made.send(frame(PING, ACK, 0, ping))
    assert made.frames[-1] == (GOAWAY, 0, 0, (3).to_bytes(4, "big") + bytes(4))
    made.send(data(framed(b"abc")) + frame(DATA, END_STREAM, 3, framed(b"def")))
    await made.until(lambda: made.client.connection.closing)
    assert made.outcome()[1] == [b"abc"]
    assert made.router.calls == {(f"/{SERVICE}/EchoEach", "OK"): 2}


@on_uvloop
async def test_pings_are_answered_and_too_many_end_the_connection() -> None:
    made = Served()
    made.send(frame(PING, 0, 0, b"12345678"))
    assert (PING, ACK, 0, b"12345678") in made.frames
    for _ in range(3):
        made.send(frame(PING, 0, 0, bytes(8)))
    kind, _, _, payload = made.frames[-1]
    assert (kind, payload[4:]) == (GOAWAY, ENHANCE_YOUR_CALM.to_bytes(4, "big") + b"too_many_pings")


STATUSES = {
    "NO_ERROR": (0, StatusCode.INTERNAL),
    "PROTOCOL_ERROR": (1, StatusCode.INTERNAL),
    "INTERNAL_ERROR": (2, StatusCode.INTERNAL),
    "FLOW_CONTROL_ERROR": (3, StatusCode.INTERNAL),
    "FRAME_SIZE_ERROR": (6, StatusCode.INTERNAL),
    "REFUSED_STREAM": (REFUSED_STREAM, StatusCode.UNAVAILABLE),
    "CANCEL": (CANCEL, StatusCode.CANCELLED),
    "COMPRESSION_ERROR": (9, StatusCode.INTERNAL),
    "ENHANCE_YOUR_CALM": (ENHANCE_YOUR_CALM, StatusCode.RESOURCE_EXHAUSTED),
}
"""What a client makes of a stream that is reset."""


@pytest.mark.parametrize(("code", "status"), STATUSES.values(), ids=STATUSES)
@on_uvloop
async def test_resets_of_ours_are_statuses_to_clients(code: int, status: StatusCode) -> None:
    class Resetting(Sink):
        def ended(self) -> None:
            self.stream.reset(code)

    async with ServedSinks(Resetting) as made:
        # A refused stream is tried again by itself, unless that is off.
        options = [("grpc.enable_retries", 0)]
        async with aio.insecure_channel(f"127.0.0.1:{made.port}", options) as channel:
            with pytest.raises(aio.AioRpcError) as error:
                await channel.unary_unary("/a.B/C")(b"", timeout=5)
        assert error.value.code() is status
