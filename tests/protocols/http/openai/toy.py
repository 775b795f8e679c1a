"""A language model without weights behind the real engine and the real HTTP front end: after token
t comes t + 1, and how likely another is falls with its distance."""

import asyncio
import inspect
import json
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from fakes import ClockedLoop
from inferd.backends.llm import EngineModel, Progress
from inferd.config.engine import EngineConfig
from inferd.config.model import ModelConfig
from inferd.config.server import ServerConfig
from inferd.engine.core import EngineCore
from inferd.engine.host.base import EngineHost, Hear
from inferd.engine.host.thread import thread_host
from inferd.engine.loading import Choice
from inferd.engine.models.registry import describe
from inferd.engine.models.spec import DecoderSpec
from inferd.engine.sched.options import SchedulerOptions
from inferd.engine.worker.base import InputBatch
from inferd.protocols.http.app import RequestRouter, create_app
from inferd.protocols.http.listener import HttpListener
from inferd.protocols.http.oip.generate import GenerateRoute
from inferd.protocols.http.oip.infer import InferRoute
from inferd.protocols.http.openai.routes import GenerationRoute
from inferd.protocols.http.reader import HttpLimits
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane
from inferd.serving.loaded_model import LoadSpec
from inferd.serving.model_manager import ModelManager
from inferd.serving.served_llm import ServedLLM
from inferd.serving.version_record import VersionRecord
from inferd.types.model import ModelReadyState

NAME = "toy"
MAX_LEN = 128
MAX_BODY = 1 << 20


def with_toy(**options: Any) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run an async test, whose first argument is a Toy, on a loop of its own."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        names = [*inspect.signature(test).parameters.values()][1:]

        def run(folder: Path, **arguments: Any) -> None:
            async def within() -> None:
                async with Toy(folder, **options) as toy:
                    await test(toy, **arguments)

            with asyncio.Runner(loop_factory=ClockedLoop) as runner:
                runner.run(within())

        folder = inspect.Parameter("folder", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = inspect.Signature([folder, *names])  # type: ignore[attr-defined]
        run.__name__ = test.__name__
        return run

    return decorate


class CountingRunner:
    """A ModelRunner. Its gate holds a step until it is open; `broken` ends the engine."""

    block_size = 4
    num_blocks = 128

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False
        self.begun = 0
        """Steps, also those that wait at the gate."""
        self.batches: list[int] = []
        self.after = -1
        """Steps until the gate shuts by itself."""

    def run(self, batch: InputBatch) -> NDArray[np.float32]:
        if self.after == 0:
            self.gate.clear()
        self.begun += 1
        self.after -= 1
        # It may be broken before the gate shuts: then nobody opens it any more, and it must not
        # shut for who comes next.
        while not self.gate.wait(0.01) and not self.broken:
            pass
        if self.broken:
            self.after = -1
            raise RuntimeError("the toy is broken")
        self.batches.append(len(batch.seq_lens))
        following = (batch.token_ids[batch.logit_rows] + 1) % self.vocab_size
        distance = np.abs(np.arange(self.vocab_size)[None, :] - following[:, None])
        return (-distance).astype(np.float32)

    def close(self) -> None:
        self.gate.set()

    def describe(self) -> dict[str, Any]:
        return {}


class Toy:
    """The toy, served on a free port while the context is open."""

    def __init__(self, folder: Path, **options: Any) -> None:
        spec, _ = describe(folder)
        self.folder = folder
        self.runner = CountingRunner(spec.vocab_size)
        self.vocab_size = spec.vocab_size
        self.options = options
        self.manager = ModelManager((), 1, 1)
        self.plane = DataPlane(self.manager)
        self.loads = 0

    def _load(
        self, folder: Path, config: EngineConfig, progress: Progress
    ) -> tuple[EngineCore, DecoderSpec, Choice]:
        self.loads += 1
        self.runner.broken = False
        spec, _ = describe(folder)
        options = SchedulerOptions(
            max_model_len=config.max_model_len or MAX_LEN,
            max_waiting_requests=config.max_num_queued_reqs, max_num_seqs=config.max_num_seqs,
        )  # fmt: skip
        core = EngineCore(self.runner, spec.vocab_size, spec.eos_token_ids, options)
        return core, spec, Choice("cpu", "float32", "float32", MAX_LEN, 128, 1, ())

    def _start(
        self, folder: Path, config: EngineConfig, hear: Hear
    ) -> AbstractAsyncContextManager[EngineHost]:
        return thread_host(lambda progress: self._load(folder, config, progress), NAME, hear)

    async def __aenter__(self) -> "Toy":
        loop = asyncio.get_running_loop()
        config = ModelConfig()
        model = EngineModel(self.folder, config, self.options, loop, None, self._start)
        await model.start()
        spec = LoadSpec(NAME, 1, self.folder, "llm", config, 1, {})
        self.llm = ServedLLM(spec, model, 0)
        self.model = model
        self.manager.default[NAME] = self.llm
        self.manager.records[NAME] = {1: VersionRecord(ModelReadyState.READY, served=self.llm)}
        self.plane.started = True
        control = ControlPlane(self.manager, ServerConfig())
        app = create_app(self.plane, control, lambda: b"", MAX_BODY)
        direct = [
            route(self.plane, MAX_BODY) for route in (InferRoute, GenerationRoute, GenerateRoute)
        ]
        self.listener = HttpListener(RequestRouter(app, *direct), HttpLimits())
        host, port = await self.listener.start("127.0.0.1", 0)
        self.address = (host, port)
        self.client = httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=20.0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.runner.gate.set()
        await self.client.aclose()
        await self.listener.stop()
        await asyncio.to_thread(self.llm.close)

    # -- asking ----------------------------------------------------------------------------------

    def text(self, *token_ids: int) -> str:
        """What tokens say."""
        return self.llm.tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def ids(self, text: str, special: bool = False) -> list[int]:
        """The tokens of a text."""
        return self.llm.tokenizer.encode(text, add_special_tokens=special)

    async def post(self, path: str, **body: Any) -> httpx.Response:
        """POST a body."""
        return await self.client.post(path, json=body)

    async def complete(self, prompt: Any, **body: Any) -> dict[str, Any]:
        """A completion that must go well; greedy where nothing is said."""
        body = {"model": NAME, "prompt": prompt, "temperature": 0, "max_tokens": 4} | body
        return _good(await self.client.post("/v1/completions", json=body))

    async def chat(self, content: Any = "hello", **body: Any) -> dict[str, Any]:
        """A chat that must go well."""
        return _good(await self.client.post("/v1/chat/completions", json=chat_body(content, body)))

    async def stream(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """The events of a stream that must go well, without the last."""
        return events((await self.post(path, stream=True, **body)).content)


def chat_body(content: Any, more: dict[str, Any]) -> dict[str, Any]:
    """A greedy chat of one message."""
    messages = [{"role": "user", "content": content}]
    return {"model": NAME, "messages": messages, "temperature": 0, "max_tokens": 4} | more


def events(content: bytes) -> list[dict[str, Any]]:
    """What a stream says, once it has ended as it must; comments are left out."""
    *parts, last, nothing = content.split(b"\n\n")
    assert (last, nothing) == (b"data: [DONE]", b"")
    said = [part for part in parts if not part.startswith(b":")]
    assert all(part.startswith(b"data: ") for part in said)
    return [strict(part[6:]) for part in said]


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error that an answer must be."""
    assert answer.status_code == status, answer.content
    assert answer.headers["content-type"] == "application/json"
    body = strict(answer.content)
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    found: dict[str, Any] = body["error"]
    return found


def strict(content: bytes) -> Any:
    """JSON without what JSON does not have."""

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(content, parse_constant=refuse)


def _good(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = strict(answer.content)
    return found
