"""Calls by grpcio's client, and by frames that it would not send."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio
from hpack import Decoder

from inferd.protocols.grpc.framing import framed
from inferd.protocols.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    NO_ERROR,
    RST_STREAM,
    frame,
)  # fmt: skip
from protocols.grpc.served import MOST, SERVICE, Served, served
from protocols.http2.client import frames_of, request
from protocols.http2.serving import BEGIN, on_uvloop


def unary(channel: aio.Channel, name: str) -> Any:
    return channel.unary_unary(f"/{SERVICE}/{name}")


async def error_of(call: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as error:
        await call
    return error.value


@on_uvloop
async def test_metadata_goes_both_ways() -> None:
    async with served() as made, aio.insecure_channel(made.address) as channel:
        call = unary(channel, "Echo")(
            b"abc", metadata=[("x-a", "1"), ("x-a", "2"), ("x-b-bin", b"\x00\xfe")]
        )
        assert await call == b"abc"
        assert made.calls.metadata == {b"x-a": b"1,2", b"x-b-bin": b"\x00\xfe"}
        trailing = dict(await call.trailing_metadata())
        assert (trailing["x-text"], trailing["x-data-bin"]) == ("text", b"\x00\xff\x10")
        assert made.count("Echo", "OK") == 1


@on_uvloop
async def test_errors_have_a_status_words_and_trailing_metadata() -> None:
    async with served() as made, aio.insecure_channel(made.address) as channel:
        error = await error_of(unary(channel, "Fail")("not hére: 100 %\n".encode()))
        assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "not hére: 100 %\n")
        assert dict(error.trailing_metadata())["x-text"] == "why"
        error = await error_of(unary(channel, "Break")(b""))
        assert (error.code(), error.details()) == (
            StatusCode.INTERNAL, "internal error: ZeroDivisionError",
        )  # fmt: skip
        assert (made.count("Fail", "NOT_FOUND"), made.count("Break", "INTERNAL")) == (1, 1)


@on_uvloop
async def test_unknown_services_methods_and_encodings_are_unimplemented() -> None:
    async with served() as made, aio.insecure_channel(made.address) as channel:
        for path, words in (
            ("/test.Calls/Nope", "unknown method Nope for service test.Calls"),
            ("/test.Other/Echo", "unknown service test.Other; this server has test.Calls"),
        ):
            error = await error_of(channel.unary_unary(path)(b""))
            assert (error.code(), error.details()) == (StatusCode.UNIMPLEMENTED, words)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("size", [10, 5000, 600_000])
@on_uvloop
async def test_compressed_messages_are_answered_so(
    compression: grpc.Compression, size: int
) -> None:
    message = bytes(range(250)) * (size // 250) + bytes(size % 250)
    async with served() as made, aio.insecure_channel(made.address) as channel:
        assert await unary(channel, "Echo")(message, compression=compression) == message
        stream = channel.stream_stream(f"/{SERVICE}/EchoEach")(compression=compression)
        for _ in range(3):
            await stream.write(message)
            assert await stream.read() == message
        await stream.done_writing()
        assert await stream.read() is aio.EOF


@on_uvloop
async def test_a_message_over_the_limit_is_refused() -> None:
    async with served() as made, aio.insecure_channel(made.address) as channel:
        assert len(await unary(channel, "Echo")(bytes(MOST))) == MOST
        error = await error_of(unary(channel, "Echo")(bytes(MOST + 1)))
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED
        assert error.details() == f"Received message larger than max ({MOST + 1} vs. {MOST})"
        error = await error_of(
            unary(channel, "Echo")(bytes(MOST + 1), compression=grpc.Compression.Gzip)
        )
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED


@on_uvloop
async def test_the_deadline_ends_a_call_on_both_sides() -> None:
    async with served() as made, aio.insecure_channel(made.address) as channel:
        error = await error_of(unary(channel, "Wait")(b"", timeout=0.05))
        assert error.code() is StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(5):
            await made.calls.cancelled.wait()


@on_uvloop
async def test_the_deadline_ends_a_call_of_a_client_that_forgets_it() -> None:
    async with served() as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        block = request_block("Wait", grpc_timeout=b"20m")
        writer.write(BEGIN + frame(HEADERS, END_HEADERS, 1, block))
        writer.write(frame(DATA, END_STREAM, 1, framed(b"")))
        fields = await answer_fields(reader)
        assert (fields[b"grpc-status"], fields[b"grpc-message"]) == (
            b"4", b"the deadline of the call has passed",
        )  # fmt: skip
        writer.close()


@on_uvloop
async def test_a_call_that_is_cancelled_ends_at_once() -> None:
    async with served() as made, aio.insecure_channel(made.address) as channel:
        call = unary(channel, "Wait")(b"")
        async with asyncio.timeout(5):
            await made.calls.begun.wait()
            call.cancel()
            await made.calls.cancelled.wait()
        assert made.count("Wait", "CANCELLED") == 1


@on_uvloop
async def test_streams_of_both_sides() -> None:
    async with served() as made, aio.insecure_channel(made.address) as channel:
        counting = channel.unary_stream(f"/{SERVICE}/Count")
        assert [len(answer) async for answer in counting(b"3 100000")] == [100_000] * 3
        assert [answer async for answer in counting(b"0 1")] == []
        echoing = channel.stream_stream(f"/{SERVICE}/EchoEach")
        messages = [bytes([number]) * number * 10_000 for number in range(8)]
        assert [answer async for answer in echoing(iter(messages))] == messages
        failing = channel.stream_stream(f"/{SERVICE}/FailLater")()
        await failing.write(b"a")
        assert await failing.read() == b"a"
        error = await error_of(failing.read())
        assert error.code() is StatusCode.INVALID_ARGUMENT
        assert error.details() == "one is enough: 100 % ☃"


@on_uvloop
async def test_a_stream_is_held_while_its_client_does_not_read() -> None:
    async with served() as made, aio.insecure_channel(made.address) as channel:
        call = channel.unary_stream(f"/{SERVICE}/Count")(b"4000 65536")
        assert len(await call.read()) == 65536
        made_before = -1
        async with asyncio.timeout(10):
            while made.calls.made != made_before:
                made_before = made.calls.made
                for _ in range(20):  # others are answered meanwhile, and get the loop its turns
                    assert await unary(channel, "Echo")(b"x") == b"x"
        assert made.calls.made < 1000
        call.cancel()
        async with asyncio.timeout(5):
            await made.calls.cancelled.wait()


@on_uvloop
async def test_a_client_that_leaves_ends_its_calls() -> None:
    async with served() as made:
        channel = aio.insecure_channel(made.address)
        stream = channel.stream_stream(f"/{SERVICE}/EchoEach")()
        await stream.write(b"a")
        assert await stream.read() == b"a"
        await channel.close()
        async with asyncio.timeout(5):
            await made.calls.cancelled.wait()
        assert made.count("EchoEach", "CANCELLED") == 1


# -- frames that no client of gRPC would send ------------------------------------------------------


def request_block(name: str, **fields: bytes) -> bytes:
    return request(_path=f"/{SERVICE}/{name}".encode(), **fields)


async def answer_fields(reader: asyncio.StreamReader) -> dict[bytes, bytes]:
    """The fields of all header blocks until the stream ends."""
    fields: dict[bytes, bytes] = {}
    async with asyncio.timeout(5):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            ((kind, flags, _, payload),) = frames_of(head + payload)
            if kind == HEADERS:
                fields |= dict(Decoder().decode(payload, raw=True))
                if flags & END_STREAM:
                    return fields


async def answered(made: Served, block: bytes, *frames: bytes) -> dict[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
    flags = END_HEADERS if frames else END_HEADERS | END_STREAM
    writer.write(BEGIN + frame(HEADERS, flags, 1, block) + b"".join(frames))
    fields = await answer_fields(reader)
    writer.close()
    return fields


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], b"the stream ended without a message"),
        ([frame(DATA, END_STREAM, 1, b"")], b"the stream ended without a message"),
        ([frame(DATA, END_STREAM, 1, b"\x00\x00")], b"the stream ended in the middle of a message"),
        ([frame(DATA, END_STREAM, 1, framed(b"abc")[:-1])], b"in the middle of a message"),
        ([frame(DATA, END_STREAM, 1, b"\x07" + framed(b"abc")[1:])], b"begins with flag 7"),
        ([frame(DATA, END_STREAM, 1, b"\x01" + framed(b"abc")[1:])], b"no grpc-encoding says"),
        ([frame(DATA, END_STREAM, 1, framed(b"1 1") * 2)], b"takes one message, not several"),
        ([frame(DATA, 0, 1, framed(b"1 1")), frame(DATA, END_STREAM, 1, framed(b"1"))],
         b"takes one message, not several"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["Echo", "Count"])
@on_uvloop
async def test_what_is_not_one_message_is_said(
    name: str, frames: list[bytes], words: bytes
) -> None:
    async with served() as made:
        fields = await answered(made, request_block(name), *frames)
        assert fields[b"grpc-status"] == b"13"
        assert words in fields[b"grpc-message"]


@pytest.mark.parametrize(
    ("instead", "status"),
    [
        ({"_method": b"GET"}, b"405"),
        ({"content_type": b"application/json"}, b"415"),
        ({"content_type": b"application/grpc-web"}, b"415"),
        ({"content_type": b"application/grpc+json"}, b"415"),
    ],
)
@on_uvloop
async def test_what_is_no_call_gets_a_status_of_http(
    instead: dict[str, bytes], status: bytes
) -> None:
    async with served() as made:
        fields = await answered(made, request_block("Echo", **instead))
        assert fields[b":status"] == status
        assert b"grpc-status" not in fields


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"grpc_timeout": b"soon"}, b"3", b"grpc-timeout 'soon'"),
        ({"grpc_encoding": b"snappy"}, b"12", b"grpc-encoding 'snappy' is not supported"),
        ({"x_b_bin": b"!"}, b"3", b"metadata 'x-b-bin' is not base64"),
    ],
)
@on_uvloop
async def test_header_fields_that_are_wrong_are_named(
    more: dict[str, bytes], status: bytes, words: bytes
) -> None:
    async with served() as made:
        fields = await answered(
            made, request_block("Echo", **more), frame(DATA, END_STREAM, 1, framed(b""))
        )
        assert fields[b"grpc-status"] == status
        assert words in fields[b"grpc-message"]


@on_uvloop
async def test_an_answer_before_the_request_is_whole_asks_for_no_more() -> None:
    async with served() as made:
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(BEGIN + frame(HEADERS, END_HEADERS, 1, request_block("Nope")))
        assert (await answer_fields(reader))[b"grpc-status"] == b"12"
        async with asyncio.timeout(5):
            head = await reader.readexactly(13)
        (reset,) = frames_of(head)
        assert (reset[0], int.from_bytes(reset[3], "big")) == (RST_STREAM, NO_ERROR)
        writer.close()
