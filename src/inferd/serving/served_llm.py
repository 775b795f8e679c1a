"""One loaded version of a language model: requests for text go through it, and are counted.

It has no batcher and no instances: the engine behind it joins requests by itself. Everything but
`render`, `request` and `close` runs on the loop's thread.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from inferd.backends.base import LanguageModel
from inferd.backends.registry import open_language_model
from inferd.errors import InferdError, InvalidRequest, Overloaded
from inferd.observability.generation_statistics import (
    EngineGauges,
    GenerationStatistics,
    RequestWatch,
)
from inferd.serving.loaded_model import LoadSpec
from inferd.types.generation import GenerationDelta, GenerationRequest, SamplingParams
from inferd.types.tensor import TensorSpec

LoadProgress = Callable[[str, int, int], None]
"""Told of a model's name, bytes done and bytes in all while it is loaded, from any thread; in the
end, however it ends, that all is done."""

ENGINE_ENDED = "the engine ended and is being started again"


class ServedLLM:
    """One loaded version of a language model."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    def __init__(self, spec: LoadSpec, model: LanguageModel, load_ns: int) -> None:
        self.spec = spec
        self.name = spec.name
        self.version = spec.version
        self.config = spec.config
        self.description = model.description
        self.statistics = GenerationStatistics()
        self.statistics.load_ns = load_ns
        self.created_s = int(time.time())
        self.tokenizer = model.tokenizer
        self.defaults: SamplingParams = model.defaults
        self.max_len = model.max_len
        self._model = model

    @property
    def trouble(self) -> str:
        """Why requests would fail now; empty when they would not."""
        return "" if self._model.alive else ENGINE_ENDED

    def in_flight(self) -> int:
        """Requests accepted and not answered."""
        return self._model.in_flight

    def gauges(self) -> EngineGauges:
        """What the engine says of itself now."""
        return self._model.gauges()

    # -- requests --------------------------------------------------------------------------------

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None,
        template: str | None, variables: Mapping[str, Any],
    ) -> str:  # fmt: skip
        """The prompt that the chat template makes of messages; raises InvalidRequest."""
        return self._model.render(messages, tools, template, variables)

    def checked_ids(self, ids: Sequence[int]) -> list[int]:
        """The same ids; raises InvalidRequest for one that is not in the vocabulary."""
        return self._model.checked_ids(ids)

    def request(
        self, id: str, prompt: Sequence[int], params: SamplingParams, *, priority: int = 0,
        tenant: str = "", cache_salt: str = "",
    ) -> GenerationRequest:  # fmt: skip
        """A request that can be generated; raises InvalidRequest that names field and fix."""
        return self._model.request(
            id, prompt, params, priority=priority, tenant=tenant, cache_salt=cache_salt
        )

    async def generate(
        self, request: GenerationRequest
    ) -> AsyncGenerator[list[GenerationDelta], None]:
        """What comes, as it comes, counted; ends when all sequences have ended.

        Leaving early aborts the request. Raises InvalidRequest or Overloaded before the first
        delta, EngineDead at any time.
        """
        watch = RequestWatch(self.statistics, request)
        try:
            async with aclosing(self._model.generate(request)) as stream:
                async for deltas in stream:
                    watch.saw(deltas)
                    yield deltas
        except (InvalidRequest, Overloaded):
            watch.refused = True
            raise
        except InferdError:
            watch.failed = True
            raise
        finally:
            watch.ended()

    # -- the end ---------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until no request is left. New ones have been stopped."""
        await self._model.drain()

    def close(self) -> None:
        """Give the memory back; blocks, off the loop."""
        self._model.close()


async def load_llm(
    spec: LoadSpec, options: Mapping[str, object], progress: LoadProgress | None,
    off_loop: Callable[[Callable[[], LanguageModel]], Any],
) -> ServedLLM:  # fmt: skip
    """Load a language model: what is small with `off_loop`, the weights where the engine runs.

    Raises ConfigError, Unsupported or BackendError; then nothing stays behind.
    """
    start_ns = time.perf_counter_ns()
    loop = asyncio.get_running_loop()
    told = None if progress is None else lambda done, total: progress(spec.name, done, total)
    model: LanguageModel = await off_loop(
        lambda: open_language_model(spec.path, spec.config, options, loop, told)
    )
    try:
        await model.start()
    finally:
        if progress is not None:
            progress(spec.name, 1, 1)
    return ServedLLM(spec, model, time.perf_counter_ns() - start_ns)
