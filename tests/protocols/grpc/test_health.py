import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fakes import clock, on_loop
from inferd.errors import InvalidRequest, ModelNotFound
from inferd.protocols.grpc.health import POLL_S, SERVICE
from inferd.protocols.grpc.services import SERVICES
from inferd.protocols.malformed import parsed
from inferd.schemas.pb.messages import message_class
from models import mlp, write_model
from protocols.grpc.planes import Client, repository

Request = message_class("grpc.health.v1.HealthCheckRequest")
Response = message_class("grpc.health.v1.HealthCheckResponse")


async def check(client: Client, service: str = "") -> str:
    method = client.method("Check", SERVICE)
    request = parsed(method.request, Request(service=service).SerializeToString())
    answer = await method.handler(request, client.context)  # type: ignore[misc]
    return named(answer)


def named(answer: Any) -> str:
    name: str = Response.ServingStatus.Name(answer.status)
    return name


class Watch:
    """A watch that is told, when the test asks, what came last."""

    def __init__(self, client: Client, service: str = "") -> None:
        async def requests() -> AsyncIterator[bytes]:
            yield Request(service=service).SerializeToString()

        self.answers: Any = client.method("Watch", SERVICE).handler(requests(), client.context)
        self._next: asyncio.Future[Any] | None = None

    async def told(self, seconds: float = POLL_S) -> str:
        """The next status, if one comes within that time."""
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self.answers))
        await clock().pass_time(0)
        await clock().pass_time(seconds)
        if not self._next.done():
            return ""
        answer, self._next = self._next, None
        return named(answer.result())

    async def leave(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        await self.answers.aclose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path, "mlp", mlp())
    return tmp_path


@on_loop
async def test_check(folder: Path) -> None:
    async with repository(folder, "explicit") as client:
        for service in ("", "mlp", *SERVICES):
            assert await check(client, service) == "SERVING"
        with pytest.raises(ModelNotFound, match="'x' is not found"):
            await check(client, "x")
        await client.control.unload("mlp")
        assert await check(client, "mlp") == "NOT_SERVING"
        assert await check(client) == "SERVING"  # nothing that is wanted is missing
        client.plane.draining = True
        for service in ("", *SERVICES):
            assert await check(client, service) == "NOT_SERVING"


@on_loop
async def test_a_watch_answers_at_once_and_then_at_changes(folder: Path) -> None:
    async with repository(folder, "explicit") as client:
        watch = Watch(client, "mlp")
        assert await watch.told(0) == "SERVING"
        for _ in range(3):
            assert await watch.told() == ""
        await client.control.unload("mlp")
        assert await watch.told() == "NOT_SERVING"
        assert await watch.told() == ""
        await client.control.load("mlp")
        assert await watch.told() == "SERVING"
        await watch.leave()


@on_loop
async def test_a_watch_of_what_there_is_not_yet(folder: Path) -> None:
    async with repository(folder, "explicit") as client:
        watch = Watch(client, "later")
        assert await watch.told(0) == "SERVICE_UNKNOWN"
        assert await watch.told() == ""
        write_model(folder, "later", mlp())
        await client.control.load("later")
        assert await watch.told() == "SERVING"
        await watch.leave()


@on_loop
async def test_a_watch_ends_when_the_server_is_about_to(folder: Path) -> None:
    async with repository(folder) as client:
        watch = Watch(client)
        assert await watch.told(0) == "SERVING"
        client.plane.draining = True
        assert await watch.told(0) == ""  # it has not looked yet
        assert await watch.told() == "NOT_SERVING"
        with pytest.raises(StopAsyncIteration):
            await anext(watch.answers)


@on_loop
async def test_a_watch_without_a_request(folder: Path) -> None:
    async def none() -> AsyncIterator[bytes]:
        for nothing in ():
            yield nothing

    async with repository(folder) as client:
        watch: Any = client.method("Watch", SERVICE).handler(none(), client.context)
        with pytest.raises(InvalidRequest, match="Watch needs a request"):
            await anext(watch)
