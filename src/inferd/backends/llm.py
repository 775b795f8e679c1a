"""Language models: inferd's own engine as a backend, the one place outside it that knows it.

It joins tokenizer, chat template, intake and AsyncLLM. It refuses to know the API that a request
came by.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

from inferd.backends.base import ModelDescription
from inferd.backends.shaping import refuse_layout
from inferd.config.engine import EngineConfig
from inferd.config.model import ModelConfig
from inferd.config.strict import decode_struct
from inferd.engine.async_llm import AsyncLLM
from inferd.engine.host.base import EngineHost, Hear
from inferd.engine.host.process import process_host
from inferd.engine.host.thread import thread_host
from inferd.engine.intake import Intake
from inferd.engine.loading import load_core
from inferd.engine.models.registry import describe
from inferd.engine.text.chat_template import ChatTemplate
from inferd.engine.text.tokenizer import Tokenizer
from inferd.errors import ConfigError, ModelUnavailable
from inferd.observability.generation_statistics import EngineGauges
from inferd.types.generation import GenerationDelta, GenerationRequest, SamplingParams

NAME = "llm"
PLATFORM = "inferd_llm"

Progress = Callable[[int, int], None]
StartEngine = Callable[[Path, EngineConfig, Hear], AbstractAsyncContextManager[EngineHost]]


def start_engine(
    folder: Path, config: EngineConfig, hear: Hear
) -> AbstractAsyncContextManager[EngineHost]:
    """Start the engine of a model where the configuration wants it."""
    if config.isolation == "process":
        return process_host(folder, config, hear)
    return thread_host(partial(load_core, folder, config), folder.name, hear)


class EngineModel:
    """One language model of inferd's own engine; a LanguageModel."""

    def __init__(
        self, folder: Path, config: ModelConfig, options: Mapping[str, object],
        loop: asyncio.AbstractEventLoop, progress: Progress | None = None,
        start: StartEngine = start_engine,
    ) -> None:  # fmt: skip
        refuse_layout(config, "a language model takes texts, not tensors")
        self._folder = folder
        self._config = engine_config(config, options)
        self._loop = loop
        self._progress = progress
        self._start = start
        self._spec, _ = describe(folder)  # says at once what is not supported
        self.tokenizer = Tokenizer.load(folder)
        self._special_tokens = self.tokenizer.special_tokens
        self._template = ChatTemplate(self.tokenizer.chat_templates, self._special_tokens)
        self.defaults = default_params(folder)
        self.description = ModelDescription(PLATFORM, NAME, 0, (), ())
        self.max_len = 0
        self._engine: AsyncLLM | None = None
        self._intake: Intake | None = None

    async def start(self) -> None:
        """Have the engine load the weights, and again whenever it has ended."""
        start = partial(self._start, self._folder, self._config)
        engine = AsyncLLM(start, self.tokenizer, self._progress)
        try:
            loaded = await engine.wait_ready()
        except BaseException:  # also a start that nobody waits for any more
            await engine.close()
            raise
        self.max_len = loaded.max_len
        self._intake = Intake(self.tokenizer, self._spec, self.max_len, self._config)
        notes = loaded.notes
        if self._template.is_default:
            notes += ("no chat template: the common ChatML form stands in",)
        self.description = ModelDescription(PLATFORM, NAME, 0, (), (), notes)
        self._engine = engine

    # -- asked -----------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether requests are taken."""
        return self._engine is not None and self._engine.alive

    @property
    def in_flight(self) -> int:
        """Requests that have not ended."""
        return self._engine.in_flight if self._engine is not None else 0

    def gauges(self) -> EngineGauges:
        """What the engine said of itself last."""
        return self._engine.gauges if self._engine is not None else EngineGauges()

    # -- requests --------------------------------------------------------------------------------

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None,
        template: str | None, variables: Mapping[str, Any],
    ) -> str:  # fmt: skip
        """The prompt for messages; raises InvalidRequest."""
        chosen = self._template
        if template is not None:
            chosen = ChatTemplate(template, self._special_tokens)
        return chosen.render(messages, tools, **variables)

    def checked_ids(self, ids: Sequence[int]) -> list[int]:
        """The same ids; raises InvalidRequest for one that is not in the vocabulary."""
        return self._ready_intake().checked_ids(ids)

    def request(
        self, id: str, prompt: Sequence[int], params: SamplingParams, *, priority: int,
        tenant: str, cache_salt: str,
    ) -> GenerationRequest:  # fmt: skip
        """A request that can be generated; raises InvalidRequest."""
        return self._ready_intake().request(
            id, prompt, params, priority=priority, tenant=tenant, cache_salt=cache_salt
        )

    def generate(self, request: GenerationRequest) -> AsyncGenerator[list[GenerationDelta], None]:
        """What comes, as it comes."""
        if self._engine is None:
            raise ModelUnavailable("the model is being loaded")
        return self._engine.generate(request)

    def _ready_intake(self) -> Intake:
        if self._intake is None:
            raise ModelUnavailable("the model is being loaded")
        return self._intake

    # -- the end ---------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until no request is left."""
        if self._engine is not None:
            await self._engine.drain()

    def close(self) -> None:
        """End the engine; not on the loop's thread."""
        if self._engine is not None:
            asyncio.run_coroutine_threadsafe(self._engine.close(), self._loop).result()


def engine_config(config: ModelConfig, options: Mapping[str, object]) -> EngineConfig:
    """What the server was told for every engine, over the model's `engine`, over its `parameters`,
    which hold text where Triton wrote them. Raises ConfigError with the nearest name."""
    texts = {name: config.parameter(name) for name in config.parameters}
    said = decode_struct(texts, EngineConfig, file="", field="parameters", strict=False)
    merged = {name: getattr(said, name) for name in texts} | config.engine
    return decode_struct({**merged, **options}, EngineConfig, file="", field="engine")


def default_params(folder: Path) -> SamplingParams:
    """What `generation_config.json` recommends; raises ConfigError for values of a wrong type."""
    file = folder / "generation_config.json"
    if not file.is_file():
        return SamplingParams()
    try:
        said = json.loads(file.read_bytes())
    except ValueError as error:
        raise ConfigError(f"cannot be read as JSON: {error}", file=str(file)) from error
    if not isinstance(said, dict):
        raise ConfigError("must hold a JSON object", file=str(file))
    names = {"max_new_tokens": "max_tokens"} | {
        name: name for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    }
    given = {ours: said[theirs] for theirs, ours in names.items() if said.get(theirs) is not None}
    return decode_struct(given, SamplingParams, file=str(file))
