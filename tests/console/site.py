"""Models that say more of themselves than tensors do, behind a real listener on a thread, for a
browser: a picture that comes back, a story that streams, arguments of every kind."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from inferd.backends.base import ModelDescription, ModelInstance
from inferd.batching.estimate import RunTimeEstimate
from inferd.config.model import ModelConfig
from inferd.config.server import ServerConfig
from inferd.protocols.http.app import RequestRouter, create_app
from inferd.protocols.http.call.route import CallRoute
from inferd.protocols.http.listener import HttpListener
from inferd.protocols.http.reader import HttpLimits
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane
from inferd.serving.instance_pool import InstancePool
from inferd.serving.loaded_model import LoadedModel, LoadSpec
from inferd.serving.model_manager import ModelManager
from inferd.serving.served_model import ServedModel
from inferd.serving.version_record import VersionRecord
from inferd.types.datatype import BYTES
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.model import ModelReadyState
from inferd.types.signature import Argument, Signature, signature_specs
from inferd.types.tensor import Array, Tensor

WORDS = ("Once ", "upon ", "a ", "time.")


def text(name: str, **more: object) -> Argument:
    schema = {"type": "string", **more}
    return Argument(name=name, datatype="BYTES", form="value", schema=schema)


SIGNATURES = {
    "picture": Signature(
        inputs=(Argument(name="image", datatype="BYTES", form="image"),),
        outputs=(Argument(name="same", datatype="BYTES", form="image"),),
        description="Gives a picture back.",
    ),
    "story": Signature(inputs=(text("about"),), outputs=(text("word"),), bare=True, streams=True),
    "options": Signature(
        inputs=(
            text("title"),
            text("tone", enum=["kind", "stern"]),
            Argument(name="count", datatype="INT32", form="value",
                     schema={"type": "integer", "minimum": 1}),
            Argument(name="ratio", datatype="FP32", form="value", schema={"type": "number"}),
            Argument(name="loud", datatype="BOOL", form="value", schema={"type": "boolean"}),
            Argument(name="more", datatype="BYTES", form="json",
                     schema={"type": "object", "required": ["at"],
                             "properties": {"at": {"$ref": "#/$defs/At"}},
                             "$defs": {"At": {"type": "array", "minItems": 2,
                                              "items": {"type": "number"}}}}),
            Argument(name="style", datatype="BYTES", form="json", default="null",
                     schema={"anyOf": [{"$ref": "#/$defs/Style"}, {"type": "null"}],
                             "$defs": {"Style": {"enum": ["oil", "ink"]}}}),
        ),
        outputs=(
            text("title_back"), text("tone_back"),
            Argument(name="count_back", datatype="INT32", form="value"),
            Argument(name="ratio_back", datatype="FP32", form="value"),
            Argument(name="loud_back", datatype="BOOL", form="value"),
            Argument(name="more_back", datatype="BYTES", form="json"),
            Argument(name="style_back", datatype="BYTES", form="json"),
        ),
    ),
}  # fmt: skip


class EchoInstance:
    """Each result is the argument in the same place."""

    def run(self, inputs: list[Array]) -> list[Array]:
        return inputs

    def close(self) -> None:
        pass


class EchoModel:
    """A Model whose tensors are those of its signature."""

    def __init__(self, signature: Signature) -> None:
        inputs, outputs = (
            signature_specs(side, batched=True) for side in (signature.inputs, signature.outputs)
        )
        self.description = ModelDescription(
            "python", "echo", 8, inputs, outputs, signature=signature
        )

    def create_instance(self) -> ModelInstance:
        return EchoInstance()

    def create_lanes(self) -> list[ModelInstance]:
        return []

    def close(self) -> None:
        pass


class TellingPlane(DataPlane):
    """A DataPlane whose streams are stories."""

    def __init__(self, manager: ModelManager) -> None:
        super().__init__(manager)
        self.go_on = asyncio.Event()

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """A word at a time; behind the first it waits to be told."""
        for number, word in enumerate(WORDS):
            if number == 1:
                await self.go_on.wait()
            array = np.array([word.encode()], object)
            yield InferenceResponse(request.model_name, "1", [Tensor("word", BYTES, array)])


class Site:
    """The server; `go_on` lets stories end."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.url = ""

    def go_on(self) -> None:
        self._loop.call_soon_threadsafe(self._plane.go_on.set)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        manager = ModelManager((), 1, 1)
        self._plane = TellingPlane(manager)
        for name, signature in SIGNATURES.items():
            served = self._load(name, signature)
            manager.default[name] = served
            manager.records[name] = {1: VersionRecord(ModelReadyState.READY, served=served)}
        self._plane.started = True
        control = ControlPlane(manager, ServerConfig())
        app = create_app(self._plane, control, lambda: b"", 1 << 24)
        listener = HttpListener(RequestRouter(app, CallRoute(self._plane, 1 << 24)), HttpLimits())
        host, port = await listener.start("127.0.0.1", 0)
        self.url = f"http://{host}:{port}"
        self._ready.set()
        await self._stop.wait()
        await listener.stop()
        await manager.close()

    def _load(self, name: str, signature: Signature) -> ServedModel:
        model, config = EchoModel(signature), ModelConfig(max_batch_size=8)
        spec = LoadSpec(name, 1, Path(name), "echo", config, 1, {})
        pool = InstancePool([model.create_instance()], self._loop, name, RunTimeEstimate())
        loaded = LoadedModel(
            description=model.description, runners=[pool], instance_count=1, load_ns=0
        )
        return ServedModel(spec, loaded, self._loop)

    @contextmanager
    def running(self) -> Iterator["Site"]:
        self._thread.start()
        try:
            assert self._ready.wait(20), "the site does not start"
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(20)
