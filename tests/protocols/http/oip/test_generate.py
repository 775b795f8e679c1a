import asyncio
import json
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fakes import on_loop, turns
from inferd.errors import BackendError
from inferd.serving.data_plane import DataPlane
from inferd.types.datatype import FP32
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.tensor import Tensor
from protocols.streaming import StreamingServer, until

X = [1.0, 2.0, 3.0, 4.0]


class Client:
    """A connection on the test's own loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def ask(
        cls, server: StreamingServer, path: str = "generate_stream", body: Any = None,
        method: str = "POST", **headers: str,
    ) -> "AsyncIterator[Client]":  # fmt: skip
        client = cls(*await asyncio.open_connection("127.0.0.1", server.port))
        data = body if isinstance(body, bytes) else json.dumps(body or {"x": X}).encode()
        lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
        head = f"{method} /v2/models/m/{path} HTTP/1.1\r\nhost: h\r\n{''.join(lines)}"
        client.writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
        try:
            yield client
        finally:
            client.writer.close()
            await client.writer.wait_closed()

    async def head(self) -> tuple[int, str]:
        async with asyncio.timeout(5):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        return int(text.split(" ")[1]), text.lower()

    async def answer(self) -> tuple[int, Any]:
        status, head = await self.head()
        size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        return status, json.loads(await self.reader.readexactly(size))

    async def chunk(self) -> str:
        async with asyncio.timeout(5):
            size = int(await self.reader.readline(), 16)
            return (await self.reader.readexactly(size + 2))[:-2].decode()

    async def events(self) -> list[Any]:
        """What all events up to the last say."""
        text = ""
        while part := await self.chunk():
            text += part
        *events, rest = text.split("\n\n")
        assert rest == ""
        assert all(event.startswith("data: ") for event in events)
        return [json.loads(event[6:]) for event in events]


def result(number: int, **more: Any) -> dict[str, Any]:
    return {**more, "model_name": "m", "model_version": "1", "y": [v * number for v in X]}


@on_loop
async def test_responses_come_as_events(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        body = {"x": X, "id": "a", "parameters": {"color": "red"}}
        async with Client.ask(server, body=body, x_request_id="mine") as client:
            status, head = await client.head()
            assert status == 200
            assert "content-type: text/event-stream; charset=utf-8\r\n" in head
            assert "x-request-id: mine\r\n" in head
            assert await client.events() == [result(n, id="a") for n in (1, 2, 3)]
        assert server.plane.asked[0].parameters == {"color": "red"}


@on_loop
async def test_a_connection_goes_on_behind_a_stream_without_events(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.results = 0
        async with Client.ask(server) as client:
            assert (await client.head())[0] == 200
            assert await client.events() == []
            client.writer.write(b"GET /v2/health/live HTTP/1.1\r\nhost: h\r\n\r\n")
            assert (await client.head())[0] == 200


@on_loop
async def test_one_response_is_the_answer(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.results = 1
        async with Client.ask(server, "versions/1/generate") as client:
            assert await client.answer() == (200, result(1))


@on_loop
async def test_generate_needs_exactly_one(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        for results in (0, 2):
            server.plane.results = results
            async with Client.ask(server, "generate") as client:
                status, body = await client.answer()
                assert status == 400
                assert "expects model to produce exactly 1 response" in body["error"]
        await until(lambda: server.plane.left == 1)  # what more the second would have given


@on_loop
async def test_errors_before_the_first_event_have_a_status(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        for path in ("generate", "generate_stream"):
            async with Client.ask(server, path, b'{"x": 1}') as client:
                status, body = await client.answer()
                assert status == 400
                assert "can not convert input 'x'" in body["error"]
            async with Client.ask(server, f"versions/7/{path}") as client:
                assert (await client.answer())[0] == 404
            async with Client.ask(server, path, method="GET") as client:
                status, head = await client.head()
                assert status == 405
                assert "allow: post" in head
        server.plane.results = 0
        server.breaks()
        async with Client.ask(server) as client:
            assert await client.answer() == (500, {"error": "the model broke"})


@on_loop
async def test_errors_behind_it_are_events(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.instead = {2: BackendError("the second one broke")}
        server.breaks()
        async with Client.ask(server) as client:
            await client.head()
            second, last = {"error": "the second one broke"}, {"error": "the model broke"}
            assert await client.events() == [result(1), second, result(3), last]


@on_loop
async def test_a_first_response_that_is_an_error_is_told_by_the_status(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.results = 2
        server.plane.instead = {1: BackendError("the first one broke")}
        async with Client.ask(server) as client:
            assert (await client.head())[0] == 500
            assert await client.events() == [{"error": "the first one broke"}, result(2)]


@on_loop
async def test_an_error_in_place_of_the_one_response(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.instead = {1: BackendError("broke")}
        async with Client.ask(server, "generate") as client:
            assert await client.answer() == (500, {"error": "broke"})


@on_loop
async def test_a_model_that_does_not_stream_gives_one_event(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path, streams=False) as server:
        real = partial(DataPlane.stream, server.plane)
        server.plane.stream = real  # type: ignore[method-assign]
        async with Client.ask(server) as client:
            await client.head()
            assert await client.events() == [result(1)]


@on_loop
async def test_a_compressed_body(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.results = 1
        body = zlib.compress(json.dumps({"x": X}).encode())
        async with Client.ask(server, "generate", body, content_encoding="deflate") as client:
            assert await client.answer() == (200, result(1))


@on_loop
async def test_a_client_that_leaves_ends_the_models_work(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        server.plane.gate = asyncio.Event()
        async with Client.ask(server) as client:
            await client.head()
            client.writer.transport.abort()
            await until(lambda: server.plane.left == 1)


@on_loop
async def test_a_client_that_stops_reading_holds_the_models_stream(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        given = 0

        async def endless(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
            nonlocal given
            large = Tensor("y", FP32, np.ones((1, 100_000), np.float32))
            while True:
                given += 1
                yield InferenceResponse("m", "1", [large])

        server.plane.stream = endless  # type: ignore[method-assign, assignment]
        async with Client.ask(server) as client:
            await client.head()
            before = -1
            while given != before:  # until what there is between the two is full
                before = given
                await asyncio.sleep(0.02)
                await turns(20)
            assert given < 200
            client.writer.transport.abort()


@on_loop
async def test_infer_of_a_decoupled_model_says_where_to_go(tmp_path: Path) -> None:
    async with StreamingServer(tmp_path) as server:
        wire = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": X}
        async with Client.ask(server, "infer", {"inputs": [wire]}) as client:
            status, body = await client.answer()
            assert status == 501
            assert body["error"].startswith(
                "HTTP end point doesn't support models with decoupled transaction policy"
            )
            assert "/v2/models/m/generate_stream" in body["error"]
