"""Inference over HTTP without a server: models, planes, routes, and connections without sockets."""

from pathlib import Path
from types import TracebackType

from fakes import clock, turns
from inferd.backends.base import OpenOptions
from inferd.backends.registry import open_model
from inferd.batching.batcher import BatchResult
from inferd.batching.estimate import RunTimeEstimate
from inferd.config.model import ModelConfig
from inferd.protocols.express.lane import ExpressLane
from inferd.protocols.http.connection import Exchange, Handler, HttpConnection
from inferd.protocols.http.listener import HttpListener
from inferd.protocols.http.oip.infer import InferRoute
from inferd.protocols.http.oip.riders import oip_riders
from inferd.protocols.http.reader import HttpLimits
from inferd.protocols.http.request import HttpRequest, RequestHead
from inferd.protocols.http.riders import HttpLane
from inferd.serving.data_plane import DataPlane
from inferd.serving.instance_pool import InstancePool
from inferd.serving.loaded_model import LoadedModel, LoadSpec
from inferd.serving.model_manager import ModelManager
from inferd.serving.served_model import ServedModel
from inferd.serving.version_record import VersionRecord
from inferd.types.model import ModelReadyState
from inferd.types.tensor import Array
from protocols.http.harness import Answer, Wire, request


class HeldPool(InstancePool):
    """A pool that has no instance free while it is held."""

    held = False

    def available(self) -> bool:
        return not self.held and super().available()

    def run_now(self, inputs: list[Array], rows: int) -> BatchResult | None:
        return None if self.held else super().run_now(inputs, rows)


class Lanes:
    """One model, answered the ordinary way or in the express lane, as each request asks."""

    def __init__(self, model: bytes, folder: Path, config: ModelConfig | None = None) -> None:
        self.manager = ModelManager((), 1, 1)
        self.plane = DataPlane(self.manager)
        self.infer = InferRoute(self.plane, 1 << 20)
        self.listener = HttpListener(self._route, HttpLimits())
        self.ordinary: list[HttpRequest] = []
        """Requests that the express lane sent the ordinary way."""
        self.trouble: list[str] = []
        """What callbacks of the loop raised."""
        lane = ExpressLane(self.plane, "m", "", oip_riders)
        self._lane = HttpLane(lane, self._start_ordinary, self.infer.settle)
        path = folder / "model.onnx"
        path.write_bytes(model)
        self.served = self._load(path, config or ModelConfig())

    def _load(self, path: Path, config: ModelConfig) -> ServedModel:
        estimate = RunTimeEstimate()
        for power in range(12):
            estimate.observe(1 << power, 1000)  # short enough for the loop's own thread
        opened = open_model("onnxruntime", path, config, OpenOptions())
        spec = LoadSpec("m", 1, path, "onnxruntime", config, 1, {})
        instances = [opened.create_instance()]
        self.pool = HeldPool(instances, clock(), "m", estimate)
        loaded = LoadedModel(
            description=opened.description, runners=[self.pool], instance_count=1, load_ns=0
        )
        served = ServedModel(spec, loaded, clock())
        self.manager.default["m"] = served
        self.manager.records["m"] = {
            1: VersionRecord(ModelReadyState.READY, served=served),
        }
        return served

    def _route(self, head: RequestHead) -> Handler:
        if b"x-ordinary" in head.fields:
            return lambda connection, asked: self.infer.start(connection, asked, "m", "")
        return self._lane.add

    def _start_ordinary(
        self, connection: HttpConnection, asked: HttpRequest, name: str, version: str
    ) -> Exchange:
        self.ordinary.append(asked)
        return self.infer.start(connection, asked, name, version)

    async def __aenter__(self) -> "Lanes":
        clock().set_exception_handler(lambda loop, context: self.trouble.append(str(context)))
        await self.listener.start("127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.listener.stop()
        await self.manager.close()

    async def ask(
        self, *bodies: bytes, ordinary: bool = False, **headers: str
    ) -> list[list[Answer]]:
        """The answers to bodies that come in one turn, each on a connection of its own."""
        if ordinary:
            headers["x-ordinary"] = "1"
        wires = [Wire(listener=self.listener) for _ in bodies]
        for wire, body in zip(wires, bodies, strict=True):
            wire.feed(request("/v2/models/m/infer", body, **headers))
        await turns(12)
        return [wire.answers() for wire in wires]

    async def only(self, body: bytes, ordinary: bool = False, **headers: str) -> Answer:
        """The one answer to one body that comes alone."""
        ((answer,),) = await self.ask(body, ordinary=ordinary, **headers)
        return answer


def comparable(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """What two answers to the same request share: all but the request's id."""
    headers = {k: v for k, v in answer.headers.items() if k not in ("x-request-id", "date")}
    return answer.status, headers, answer.body
