"""A model that streams, behind a real plane and a real listener; its stream is the test's."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType

import msgspec

from fakes import clock
from inferd.config.model import ModelConfig
from inferd.config.server import ServerConfig
from inferd.errors import BackendError, InferdError
from inferd.protocols.http.app import RequestRouter, create_app
from inferd.protocols.http.call.route import CallRoute
from inferd.protocols.http.listener import HttpListener
from inferd.protocols.http.oip.generate import GenerateRoute
from inferd.protocols.http.oip.infer import InferRoute
from inferd.protocols.http.reader import HttpLimits
from inferd.protocols.websocket.route import WebSocketRoute
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.tensor import Tensor
from models import identity
from protocols.http.oip.lanes import Lanes


class CountingPlane(DataPlane):
    """Its stream gives x, 2x, 3x, ...; how many, and what then, is up to the test."""

    results = 3
    ends_with: InferdError | None = None
    instead: Mapping[int, InferdError] = MappingProxyType({})
    """Errors that come in place of results, by number."""
    last_is_final = False
    """Whether the model says so of its last result."""
    gate: asyncio.Event | None = None
    """Where there is one, the stream waits for it before it goes on behind its first result."""

    def __init__(self, lanes: Lanes) -> None:
        super().__init__(lanes.manager)
        self.asked: list[InferenceRequest] = []
        self.left = 0

    async def stream(
        self, request: InferenceRequest
    ) -> AsyncGenerator[InferenceResponse | InferdError, None]:
        self.asked.append(request)
        try:
            for number in range(1, self.results + 1):
                if number == 2 and self.gate is not None:
                    await self.gate.wait()
                if number in self.instead:
                    yield self.instead[number]
                    continue
                array = request.inputs[0].array * number
                output = Tensor("y", request.inputs[0].datatype, array)
                final = self.last_is_final and number == self.results
                yield InferenceResponse(request.model_name, "1", [output], request.id, final=final)
            if self.ends_with is not None:
                raise self.ends_with
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise


class StreamingServer:
    """Model `m`, x FP32 [4], which streams, on a port of its own, on the test's loop."""

    def __init__(self, folder: Path, streams: bool = True) -> None:
        self.lanes = Lanes(identity(), folder, ModelConfig(max_batch_size=64))
        served = self.lanes.served
        served.signature = msgspec.structs.replace(served.signature, streams=streams)
        self.plane = CountingPlane(self.lanes)
        self.plane.started = True
        control = ControlPlane(self.lanes.manager, ServerConfig())
        most = 1 << 20
        self.listener = HttpListener(
            RequestRouter(
                create_app(self.plane, control, lambda: b"", most),
                CallRoute(self.plane, most),
                GenerateRoute(self.plane, most),
                InferRoute(self.plane, most),
                WebSocketRoute(self.plane, most),
            ),
            HttpLimits(),
        )
        self.port = 0
        self.trouble: list[str] = []
        """What callbacks of the loop raised."""

    async def __aenter__(self) -> "StreamingServer":
        clock().set_exception_handler(lambda loop, context: self.trouble.append(str(context)))
        _, self.port = await self.listener.start("127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.listener.stop()
        await self.lanes.manager.close()
        if kind is None:
            assert self.trouble == []

    def breaks(self) -> None:
        """Let streams fail behind their last result."""
        self.plane.ends_with = BackendError("the model broke")


async def until(condition: object) -> None:
    """Let the loop turn until a callable gives something true; fail after 5 s."""
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
