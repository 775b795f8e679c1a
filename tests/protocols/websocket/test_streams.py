import asyncio
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fakes import clock, on_loop
from inferd.protocols.websocket.calls import MAX_IN_FLIGHT
from inferd.protocols.websocket.session import PING_S
from protocols.streaming import StreamingServer, until

X = [1.0, 2.0, 3.0, 4.0]


def opened(server: StreamingServer, **options: Any) -> connect:
    return connect(f"ws://127.0.0.1:{server.port}/ws/models/m", ping_interval=None, **options)


def call(id: Any, **more: Any) -> str:
    return json.dumps({"id": id, "inputs": {"x": X}, **more})


async def received(client: ClientConnection) -> Any:
    async with asyncio.timeout(5):
        return json.loads(await client.recv())


@on_loop
async def test_a_stream_is_several_outputs_and_a_last_message(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server, opened(server) as client:
        await client.send(call(1))
        answers = [await received(client) for _ in range(4)]
        assert answers[:3] == [{"id": 1, "outputs": {"y": [v * n for v in X]}} for n in (1, 2, 3)]
        assert answers[3] == {"id": 1, "done": True}


@on_loop
async def test_a_stream_that_fails_ends_with_an_error(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server, opened(server) as client:
        server.breaks()
        await client.send(call("s"))
        answers = [await received(client) for _ in range(4)]
        assert answers[3] == {"id": "s", "error": "the model broke"}


@on_loop
async def test_a_binary_request_is_answered_by_binary_messages(tmp_path: Path) -> None:
    array = np.array([X], np.float32)
    described = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
    described |= {"parameters": {"binary_data_size": array.nbytes}}
    head = json.dumps({"id": "b", "inputs": [described]}).encode()
    async with StreamingServer(tmp_path) as server, opened(server) as client:
        await client.send(struct.pack("<I", len(head)) + head + array.tobytes())
        for number in (1, 2, 3):
            answer = await client.recv()
            assert isinstance(answer, bytes)
            assert answer.endswith((array * number).tobytes())
        assert await received(client) == {"id": "b", "done": True}


@on_loop
async def test_a_stream_can_be_cancelled_and_others_go_on(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server, opened(server) as client:
        server.plane.gate = asyncio.Event()
        await client.send(call("a"))
        await client.send(call("b"))
        assert {(await received(client))["id"] for _ in range(2)} == {"a", "b"}
        await client.send('{"id": "a", "cancel": true}')
        assert await received(client) == {"id": "a", "error": "cancelled"}
        await until(lambda: server.plane.left == 1)
        server.plane.gate.set()
        rest = [await received(client) for _ in range(3)]
        assert [answer["id"] for answer in rest] == ["b"] * 3
        assert rest[2]["done"]


@on_loop
async def test_a_client_that_vanishes_mid_stream_cancels_all(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.gate = asyncio.Event()
        async with opened(server) as client:
            for number in range(5):
                await client.send(call(number))
            for _ in range(5):
                await received(client)
            client.transport.abort()
        await until(lambda: server.plane.left == 5)
        assert not server.listener.connections


@on_loop
async def test_more_calls_than_the_limit_are_refused_and_the_others_answered(
    tmp_path: Path,
) -> None:
    async with StreamingServer(tmp_path) as server, opened(server) as client:
        server.plane.gate = asyncio.Event()
        for number in range(MAX_IN_FLIGHT + 1):
            await client.send(call(number))
        seen = [await received(client) for _ in range(MAX_IN_FLIGHT + 1)]
        (refused,) = [answer for answer in seen if "error" in answer]
        assert refused["id"] == MAX_IN_FLIGHT
        assert "256 calls are in flight" in refused["error"]
        server.plane.gate.set()
        rest = [await received(client) for _ in range(3 * MAX_IN_FLIGHT)]
        assert sum("done" in answer for answer in rest) == MAX_IN_FLIGHT


@on_loop
async def test_a_client_that_reads_slowly_holds_its_stream_up(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server, opened(server, max_queue=1) as client:
        server.plane.results = 200_000
        await client.send(call("long"))
        (connection,) = server.listener.connections
        await until(lambda: connection.is_stuck)
        for number in range(1, 50):
            assert (await received(client))["outputs"]["y"][0] == number
        await client.send('{"id": "long", "cancel": true}')  # which is heard all the same
        await until(lambda: server.plane.left == 1)
        client.transport.abort()


@on_loop
async def test_a_client_that_asks_and_does_not_read_is_not_listened_to_for_ever(
    tmp_path: Path,
) -> None:
    async with StreamingServer(tmp_path) as server, opened(server, max_queue=1) as client:
        server.plane.results = 200_000
        await client.send(call("long"))
        (connection,) = server.listener.connections
        await until(lambda: connection.is_stuck)

        async def ask_on() -> None:
            for _ in range(6000):  # far more than the kernel's buffers hold
                await client.send("x" * 10_000)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask_on(), 1)
        client.transport.abort()
        await until(lambda: not server.listener.connections)


@on_loop
async def test_sessions_are_handed_on(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        headers = {"X-Session-Id": "of-the-connection"}
        async with opened(server, additional_headers=headers) as client:
            await client.send(call(1))
            await client.send(call(2, session="of-the-message"))
            for _ in range(8):
                await received(client)
        sessions = {request.session for request in server.plane.asked}
        assert sessions == {"of-the-connection", "of-the-message"}


@on_loop
async def test_a_silent_client_is_pinged_and_kept_while_it_answers(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server, opened(server) as client:
        for _ in range(3):
            await clock().pass_time(PING_S)
            pong = await client.ping()  # its answer comes behind the server's own ping
            async with asyncio.timeout(5):
                await pong
        assert len(server.listener.connections) == 1


@on_loop
async def test_a_client_that_answers_no_ping_is_dropped(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        async with opened(server) as client:
            client.transport.pause_reading()  # so it hears no ping
            await clock().pass_time(PING_S)
            await clock().pass_time(PING_S)
            client.transport.resume_reading()
            with pytest.raises(ConnectionClosed):
                await received(client)
        assert client.close_code == 1011
        await until(lambda: not server.listener.connections)


@on_loop
async def test_draining_ends_a_connection_behind_its_last_answer(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server, opened(server) as client:
        server.plane.gate = asyncio.Event()
        await client.send(call(1))
        await received(client)
        server.listener.drain()
        server.plane.draining = True
        server.plane.gate.set()
        assert [list(await received(client)) for _ in range(3)][-1] == ["id", "done"]
        with pytest.raises(ConnectionClosed):
            await received(client)
        assert client.close_code == 1001
        await server.listener.idle()
