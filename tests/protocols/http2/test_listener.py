import asyncio
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest

from inferd.protocols.http2.frames import (
    ACK,
    END_STREAM,
    GOAWAY,
    MAX_ID,
    PING,
    SETTINGS,
    frame,
    settings,
    window_update,
)
from protocols.http2.client import (
    HEAD_BLOCK,
    LAST_BLOCK,
    Sink,
    call,
    data,
    frames_of,
    headers,
    payload_of,
)
from protocols.http2.serving import BEGIN, GrpcEcho, Served, on_uvloop, until_frame


@on_uvloop
async def test_calls_over_a_socket() -> None:
    async with Served() as served:
        reader, writer = await served.connected()
        writer.write(BEGIN + call(1) + call(3, b"second") + frame(PING, 0, 0, b"the last"))
        frames = await until_frame(reader, PING)
        assert payload_of(frames, 1) == b"question"
        assert payload_of(frames, 3) == b"second"
        writer.close()


@on_uvloop
async def test_http_1_is_answered_in_its_own_words() -> None:
    async with Served() as served:
        reader, writer = await served.connected()
        writer.write(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"gRPC over HTTP/2; HTTP/1.1 is served on another port, 8000" in answer
        writer.close()


@on_uvloop
async def test_a_slow_reader_holds_back_its_stream_and_no_memory() -> None:
    async with Served(Sink) as served:
        reader, writer = await served.connected()
        writer.write(BEGIN + settings({4: 2**31 - 1}) + window_update(0, 2**30) + headers(1))
        async with asyncio.timeout(5):
            while not served.sinks:
                await asyncio.sleep(0)
            stream = served.sinks[0].stream
            size = 0
            while stream.send(bytes(32 * 1024)):
                size += 32 * 1024
                assert size < 64 * 2**20
                await asyncio.sleep(0)
        (transport,) = served.listener.connections
        assert transport.connection.output.backlog == 0
        stream.finish(LAST_BLOCK)
        output = b""
        async with asyncio.timeout(10):
            while len(output) < size + 32 * 1024:
                output += await reader.read(2**20)
        writer.close()


@on_uvloop
async def test_a_drain_ends_connections_and_loses_no_call() -> None:
    async with Served(Sink) as served:
        reader, writer = await served.connected()
        writer.write(BEGIN + headers(1))
        await until_frame(reader, SETTINGS)
        await until_frame(reader, SETTINGS)
        served.listener.drain()
        frames = await until_frame(reader, PING)
        ask, ping = frames[-2:]
        assert ask[0] == GOAWAY
        assert int.from_bytes(ask[3][:4], "big") == MAX_ID
        # A call that was on its way when the client heard of it.
        writer.write(call(3) + frame(PING, ACK, 0, ping[3]))
        frames = await until_frame(reader, GOAWAY)
        assert int.from_bytes(frames[-1][3][:4], "big") == 3
        assert any(transport.busy for transport in served.listener.connections)
        writer.write(data(1, b"", END_STREAM))
        for sink in served.sinks:
            sink.stream.answer(HEAD_BLOCK, b"answer", LAST_BLOCK)
        async with asyncio.timeout(5):
            await served.listener.idle()
            rest = frames_of(await reader.read())
        assert payload_of(rest, 3) == b"answer"
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await served.connected()


@on_uvloop
async def test_grpcio_as_the_client() -> None:
    async with (
        Served(GrpcEcho) as served,
        grpc.aio.insecure_channel(
            f"127.0.0.1:{served.port}", options=[("grpc.max_receive_message_length", -1)]
        ) as channel,
    ):
        echo = channel.unary_unary("/package.Service/Echo")
        for message in (b"", b"short", bytes(5_000_000)):
            assert await echo(message, timeout=10) == message
        answers = await asyncio.gather(*[echo(b"%d" % n, timeout=10) for n in range(200)])
        assert answers == [b"%d" % n for n in range(200)]
        stream = channel.stream_stream("/package.Service/Echo")
        messages = [b"one", b"two" * 100_000]
        assert [m async for m in stream(iter(messages), timeout=10)] == messages


@on_uvloop
async def test_grpcio_leaves_when_it_is_asked_to() -> None:
    async with (
        Served(GrpcEcho) as served,
        grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel,
    ):
        echo = channel.unary_unary("/package.Service/Echo")
        await echo(b"", timeout=10)
        served.listener.drain()
        async with asyncio.timeout(5):
            await served.listener.idle()


async def run(*arguments: str | Path) -> str:
    """The output of a client that must succeed."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    async with asyncio.timeout(20):
        output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode()


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


@needs("h2load")
@on_uvloop
async def test_h2load(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(100_000))
    async with Served(GrpcEcho) as served:
        url = f"http://127.0.0.1:{served.port}/a.B/C"
        said = await run("h2load", "-n200", "-c4", "-m8", "-d", body, url)
        assert "200 succeeded, 0 failed" in said


@needs("nghttp")
@on_uvloop
async def test_nghttp(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"echo" * 50_000)
    async with Served(GrpcEcho) as served:
        url = f"http://127.0.0.1:{served.port}/a.B/C"
        assert await run("nghttp", "-d", body, "--trailer", "x: y", url) == "echo" * 50_000


@needs("curl")
@on_uvloop
async def test_curl(tmp_path: Path) -> None:
    async with Served(GrpcEcho) as served:
        url = f"http://127.0.0.1:{served.port}/a.B/C"
        said = await run("curl", "-sS", "--http2-prior-knowledge", "--data-binary", "echo", url)
        assert said == "echo"
