"""Encoders behind the real HTTP front end, and a model of one's own in their place."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from fakes import FakeInstance, on_loop
from inferd.backends.base import ModelDescription
from inferd.batching.estimate import RunTimeEstimate
from inferd.config.model import ModelConfig
from inferd.config.server import ServerConfig
from inferd.protocols.http.app import RequestRouter, create_app
from inferd.protocols.http.listener import HttpListener
from inferd.protocols.http.oip.infer import InferRoute
from inferd.protocols.http.openai.routes import GenerationRoute
from inferd.protocols.http.reader import HttpLimits
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane
from inferd.serving.instance_pool import InstancePool
from inferd.serving.loaded_model import LoadedModel, LoadSpec
from inferd.serving.model_loading import load_model
from inferd.serving.model_manager import ModelManager
from inferd.serving.served_model import ServedModel
from inferd.serving.version_record import VersionRecord
from inferd.types.model import ModelReadyState

MAX_BODY = 1 << 20


class Texts:
    """Models, served on a free port while the context is open."""

    def __init__(self, **folders: Path) -> None:
        self._folders = folders
        self.manager = ModelManager((), 1, 1)
        self.plane = DataPlane(self.manager)

    async def __aenter__(self) -> "Texts":
        loop = asyncio.get_running_loop()
        for name, folder in self._folders.items():
            spec = LoadSpec(name, 1, folder, "transformers", ModelConfig(), 1, {})
            self.add(await asyncio.to_thread(load_model, spec, loop))
        self.plane.started = True
        control = ControlPlane(self.manager, ServerConfig())
        app = create_app(self.plane, control, lambda: b"", MAX_BODY)
        infer, generation = InferRoute(self.plane, MAX_BODY), GenerationRoute(self.plane, MAX_BODY)
        self.listener = HttpListener(RequestRouter(app, infer, generation), HttpLimits())
        host, port = await self.listener.start("127.0.0.1", 0)
        self.url = f"http://{host}:{port}"
        self.client = httpx.AsyncClient(base_url=self.url, timeout=20.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self.listener.stop()
        for served in self.manager.served_models():
            await served.drain()
            await asyncio.to_thread(served.close)

    def add(self, served: ServedModel) -> None:
        """Serve one more."""
        self.manager.default[served.name] = served
        record = VersionRecord(ModelReadyState.READY, served=served)
        self.manager.records[served.name] = {served.version: record}

    def add_fake(self, name: str, description: ModelDescription, instance: FakeInstance) -> None:
        """Serve a model that is in the test's hands."""
        spec = LoadSpec(name, 1, Path(), "fake", ModelConfig(), 1, {})
        loop = asyncio.get_running_loop()
        pool = InstancePool([instance], loop, name, RunTimeEstimate())
        loaded = LoadedModel(description=description, runners=[pool], instance_count=1, load_ns=0)
        self.add(ServedModel(spec, loaded, loop))

    def served(self, name: str) -> ServedModel:
        """A model."""
        return self.plane.served(name)

    async def post(self, path: str, **body: Any) -> Any:
        """The body of an answer that must go well."""
        answer = await self.client.post(path, json=body)
        assert answer.status_code == 200, answer.content
        return answer.json()

    async def error(self, path: str, status: int = 400, **body: Any) -> dict[str, Any]:
        """The error that an answer must be."""
        answer = await self.client.post(path, json=body)
        assert answer.status_code == status, answer.content
        found: dict[str, Any] = answer.json()["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return found


def with_texts(
    *names: str,
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run an async test, whose first argument is Texts, with these models of `FOLDERS`."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        async def run(*arguments: Any, **named: Any) -> None:
            async with Texts(**{name: FOLDERS[name]() for name in names}) as texts:
                await test(texts, *arguments, **named)

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        run.__signature__ = _without_first(test)  # type: ignore[attr-defined]
        return on_loop(run)

    return decorate


def _without_first(test: Callable[..., Any]) -> Any:
    import inspect

    signature = inspect.signature(test)
    return signature.replace(parameters=[*signature.parameters.values()][1:])


def _folder(architecture: str, names: str = "") -> Callable[[], Path]:
    def make() -> Path:
        from backends.encoders import tiny

        return tiny.saved(architecture, names=names) if names else tiny.saved(architecture)

    return make


CLASSIFIER = "BertForSequenceClassification"
FOLDERS = {
    "embedder": _folder("BertModel"),
    "reranker": _folder(CLASSIFIER, "LABEL_0"),
    "classifier": _folder(CLASSIFIER, "bad so-so good"),
}
