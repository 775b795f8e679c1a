"""Services over real planes, called without a connection."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tritonclient.grpc import service_pb2

from inferd.config.model import ModelConfig
from inferd.config.server import ServerConfig
from inferd.errors import InferdError
from inferd.protocols.grpc.methods import Method
from inferd.protocols.grpc.services import methods
from inferd.protocols.malformed import parsed
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane
from inferd.serving.model_manager import ModelManager
from models import identity
from protocols.grpc.wire import joined
from protocols.http.oip.lanes import Lanes
from protocols.streaming import CountingPlane


@dataclass
class Context:
    """A CallContext."""

    metadata: dict[bytes, bytes] = field(default_factory=dict)
    deadline_ns: int = 0
    trailing: dict[bytes, bytes] = field(default_factory=dict)

    def set_trailing(self, name: bytes, value: bytes) -> None:
        self.trailing[name] = value


class Client:
    """Calls methods with Triton's messages."""

    def __init__(self, plane: DataPlane, control: ControlPlane) -> None:
        self.plane = plane
        self.control = control
        self.methods = {method.path: method for method in methods(plane, control)}
        self.context = Context()

    def method(self, name: str, service: str = "inference.GRPCInferenceService") -> Method:
        return self.methods[f"/{service}/{name}"]

    async def call(self, name: str, request: Any = None, /, **fields: Any) -> Any:
        """Triton's message of the answer to Triton's message of a request."""
        method = self.method(name)
        assert method.kind == "unary"
        wire = request or getattr(service_pb2, f"{name}Request")(**fields)
        data = wire.SerializeToString()
        given = data if method.request is None else parsed(method.request, data)
        answer = await method.handler(given, self.context)  # type: ignore[misc]
        return getattr(service_pb2, f"{name}Response").FromString(joined(answer))

    async def error(self, name: str, request: Any = None, /, **fields: Any) -> InferdError:
        """The error that a call ends with."""
        try:
            answer = await self.call(name, request, **fields)
        except InferdError as error:
            return error
        raise AssertionError(f"no error but {answer}")

    def stream(self, *requests: Any) -> "Stream":
        """A ModelStreamInfer with these requests; see Stream."""
        return Stream(self, requests)


class Stream:
    """A ModelStreamInfer call whose requests are sent by the test."""

    def __init__(self, client: Client, requests: Sequence[Any] = ()) -> None:
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self.read = 0
        """Requests that were taken."""
        for request in requests:
            self.send(request)
        handler = client.method("ModelStreamInfer").handler
        self.answers: Any = handler(self._requests(), client.context)

    def send(self, request: Any) -> None:
        data = request if isinstance(request, bytes) else request.SerializeToString()
        self._sent.put_nowait(data)

    def end(self) -> None:
        """No more requests come."""
        self._sent.put_nowait(None)

    def fail(self, error: Exception) -> None:
        """What comes in place of the next request."""
        self._sent.put_nowait(error)

    async def _requests(self) -> AsyncIterator[bytes]:
        while (data := await self._sent.get()) is not None:
            if isinstance(data, Exception):
                raise data
            self.read += 1
            yield data

    async def next(self) -> Any:
        """The next answer, as Triton's message."""
        async with asyncio.timeout(5):
            return stream_message(await anext(self.answers))

    async def rest(self) -> list[Any]:
        """All answers that there are still, once no more requests come."""
        self.end()
        async with asyncio.timeout(5):
            return [stream_message(answer) async for answer in self.answers]


def stream_message(answer: Any) -> Any:
    return service_pb2.ModelStreamInferResponse.FromString(joined(answer))


class Streaming:
    """Model `m`, x FP32 [4] to y, which streams or does not, and its client."""

    def __init__(self, folder: Path, streams: bool = True) -> None:
        self.lanes = Lanes(identity(), folder, ModelConfig(max_batch_size=64))
        served = self.lanes.served
        served.signature = msgspec.structs.replace(served.signature, streams=streams)
        self.plane = CountingPlane(self.lanes)
        self.plane.started = True
        self.client = Client(self.plane, ControlPlane(self.lanes.manager, ServerConfig()))

    async def __aenter__(self) -> "Streaming":
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.lanes.manager.close()


@asynccontextmanager
async def repository(folder: Path, mode: str = "none") -> AsyncIterator[Client]:
    """A client of models that lie in a folder."""
    manager = ModelManager((folder,), 1, 1)
    plane = DataPlane(manager)
    control = ControlPlane(manager, ServerConfig(model_control_mode=mode, load_model=("*",)))
    await control.start()
    plane.started = True
    try:
        yield Client(plane, control)
    finally:
        await manager.close()
