import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fakes import clock, on_loop
from inferd.protocols.http.event_stream import PING_S
from protocols.streaming import StreamingServer, until

X = [1.0, 2.0, 3.0, 4.0]


class Client:
    """A connection on the test's own loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def call(
        cls, server: StreamingServer, body: Any = None, **headers: str
    ) -> "AsyncIterator[Client]":
        client = cls(*await asyncio.open_connection("127.0.0.1", server.port))
        data = json.dumps({"x": X} if body is None else body).encode()
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        head = f"POST /models/m HTTP/1.1\r\nhost: h\r\n{''.join(lines)}content-length: {len(data)}"
        client.writer.write(head.encode() + b"\r\n\r\n" + data)
        try:
            yield client
        finally:
            client.writer.close()
            await client.writer.wait_closed()

    async def head(self) -> tuple[int, str]:
        async with asyncio.timeout(5):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        return int(text.split(" ")[1]), text.lower()

    async def chunk(self) -> str:
        async with asyncio.timeout(5):
            size = int(await self.reader.readline(), 16)
            return (await self.reader.readexactly(size + 2))[:-2].decode()

    async def whole(self) -> str:
        """All chunks up to the last."""
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return "".join(parts)


def result(number: int) -> str:
    return f"data: {json.dumps({'y': [v * number for v in X]}, separators=(',', ':'))}\n\n"


@on_loop
async def test_results_come_as_events(tmp_path: Path) -> None:
    async with (
        StreamingServer(tmp_path) as server,
        Client.call(server, x_session_id="s", x_request_id="mine") as client,
    ):
        status, head = await client.head()
        assert status == 200
        assert "content-type: text/event-stream; charset=utf-8\r\n" in head
        assert "x-request-id: mine\r\n" in head
        done = "event: done\ndata: {}\n\n"
        assert await client.whole() == result(1) + result(2) + result(3) + done
        assert server.plane.asked[0].session == "s"


@on_loop
async def test_each_result_comes_when_it_is_there(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.gate = asyncio.Event()
        async with Client.call(server) as client:
            await client.head()
            assert await client.chunk() == result(1)
            server.plane.gate.set()
            assert await client.chunk() == result(2)


@on_loop
async def test_who_accepts_json_gets_a_list(tmp_path: Path) -> None:
    async with (
        StreamingServer(tmp_path) as server,
        Client.call(server, accept="application/json", connection="close") as client,
    ):
        status, _ = await client.head()
        assert status == 200
        assert [answer["y"][0] for answer in json.loads(await client.reader.read())] == [
            1,
            2,
            3,
        ]


@on_loop
async def test_an_error_before_the_first_result_is_an_answer(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        async with Client.call(server, {"x": 1}) as client:
            assert (await client.head())[0] == 400
        server.plane.results = 0
        server.breaks()
        async with Client.call(server) as client:
            assert (await client.head())[0] == 500


@on_loop
async def test_an_error_behind_it_is_the_last_event(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.breaks()
        async with Client.call(server) as client:
            await client.head()
            text = await client.whole()
            assert text.endswith('event: error\ndata: {"error":"the model broke"}\n\n')
            assert "done" not in text


@on_loop
async def test_a_client_that_leaves_ends_the_models_work(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.gate = asyncio.Event()
        async with Client.call(server) as client:
            await client.head()
            client.writer.transport.abort()
            await until(lambda: server.plane.left == 1)


@on_loop
async def test_a_silent_stream_is_kept_open(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.gate = asyncio.Event()
        async with Client.call(server) as client:
            await client.head()
            assert await client.chunk() == result(1)
            await clock().pass_time(PING_S)
            await clock().pass_time(PING_S)
            assert await client.chunk() == ": still working\n\n"
            server.plane.gate.set()
            assert (await client.whole()).startswith(result(2))


@pytest.mark.parametrize(
    ("accept", "status"),
    [("text/event-stream, application/json", "event-stream"), ("*/*", "event")],
)
def test_events_are_preferred(tmp_path: Path, accept: str, status: str) -> None:
    @on_loop
    async def run() -> None:
        async with (
            StreamingServer(tmp_path) as server,
            Client.call(server, accept=accept) as client,
        ):
            assert status in (await client.head())[1]

    run()
