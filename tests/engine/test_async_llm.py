"""The asynchronous face: streams, leaving early, and an engine that dies and comes back."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.checkpoints import VOCAB, greedy, prompt
from engine.folders import with_tokenizer
from fakes import clock, on_loop, turns
from inferd.config.engine import EngineConfig
from inferd.engine.async_llm import AsyncLLM
from inferd.engine.core import EngineCore
from inferd.engine.host.base import EngineHost, Hear
from inferd.engine.host.loop import Load
from inferd.engine.host.messages import Command, Loaded
from inferd.engine.host.thread import thread_host
from inferd.engine.loading import Choice, load_core
from inferd.engine.models.registry import describe
from inferd.engine.models.spec import DecoderSpec
from inferd.engine.sched.options import SchedulerOptions
from inferd.engine.text.tokenizer import Tokenizer
from inferd.engine.weights.packed import Progress
from inferd.engine.worker.base import InputBatch
from inferd.errors import ConfigError, EngineDead, InferdError, InvalidRequest
from inferd.types.generation import GenerationDelta, GenerationRequest, SamplingParams

POISON = 13


class Counting:
    """A ModelRunner whose likeliest next token is the last one and 1; POISON breaks it."""

    block_size, num_blocks = 16, 64

    def run(self, batch: InputBatch) -> NDArray[np.float32]:
        if POISON in batch.token_ids:
            raise RuntimeError("poisoned")
        logits = np.zeros((len(batch.logit_rows), VOCAB), np.float32)
        last = batch.token_ids[batch.logit_rows]
        logits[np.arange(len(last)), (last + 1) % VOCAB] = 9.0
        return logits

    def close(self) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {}


def counting(folder: Path) -> Load:
    """Loads an engine that counts."""

    def load(progress: Progress) -> tuple[EngineCore, DecoderSpec, Choice]:
        options = SchedulerOptions(max_model_len=512, max_num_seqs=8, max_num_batched_tokens=64)
        core = EngineCore(Counting(), VOCAB, (), options)
        return core, describe(folder)[0], Choice("cpu", "float32", "float32", 512, 64, 1, ())

    return load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer("llama", tmp_path_factory.mktemp("llama"))


def request(id: str, tokens: list[int], count: int = 8, **params: Any) -> GenerationRequest:
    chosen = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, **params)
    return GenerationRequest(id=id, prompt_token_ids=tokens, params=chosen)


async def gather(llm: AsyncLLM, wanted: GenerationRequest) -> list[GenerationDelta]:
    return [delta async for deltas in llm.generate(wanted) for delta in deltas]


def run(folder: Path, load: Load, body: Callable[[AsyncLLM], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        llm = AsyncLLM(partial(thread_host, load, "test"), Tokenizer.load(folder))
        async with asyncio.timeout(30):
            await llm.wait_ready()
            await body(llm)
            await llm.close()

    asyncio.run(main())


def test_streams_of_a_real_model_side_by_side_are_transformers(folder: Path) -> None:
    config = EngineConfig(dtype="float32", packed_cache=False)

    async def body(llm: AsyncLLM) -> None:
        prompts = [prompt(5 + 7 * n, n) for n in range(6)]
        streams = [gather(llm, request(f"r{n}", ids, 32)) for n, ids in enumerate(prompts)]
        for ids, deltas in zip(prompts, await asyncio.gather(*streams), strict=True):
            assert [t for delta in deltas for t in delta.token_ids] == greedy("llama", ids, 32)
            assert [d.finish_reason for d in deltas if d.finish_reason] == ["length"]

    run(folder, partial(load_core, folder, config), body)


def test_leaving_early_frees_the_blocks(folder: Path) -> None:
    async def body(llm: AsyncLLM) -> None:
        async with aclosing(llm.generate(request("left", [100], 400))) as stream:
            await anext(stream)
        assert llm.in_flight == 0
        # The engine's thread takes commands in order: behind this answer the blocks are free.
        await gather(llm, request("next", [100], 2))
        assert (llm.gauges.running, llm.gauges.waiting, llm.gauges.kv_usage) == (0, 0, 0.0)

    run(folder, counting(folder), body)


def test_a_stop_string_ends_the_stream(folder: Path) -> None:
    async def body(llm: AsyncLLM) -> None:
        tokenizer = Tokenizer.load(folder)
        stop = tokenizer.decode([45, 46])
        deltas = await gather(llm, request("stop", [40], 400, stop=(stop,)))
        assert deltas[-1].stop_reason == stop
        assert "".join(d.text for d in deltas) == tokenizer.decode([41, 42, 43, 44])

    run(folder, counting(folder), body)


def test_what_the_engine_refuses_comes_before_the_first_delta(folder: Path) -> None:
    async def body(llm: AsyncLLM) -> None:
        with pytest.raises(InvalidRequest, match="maximum context length"):
            await gather(llm, request("long", [100] * 600))
        assert llm.in_flight == 0

    run(folder, counting(folder), body)


def test_an_engine_that_dies_tells_everybody_and_comes_back(folder: Path) -> None:
    async def body(llm: AsyncLLM) -> None:
        asking = llm.generate(request("neighbour", [100], 400))
        await anext(asking)
        with pytest.raises(EngineDead, match="poisoned"):
            await gather(llm, request("poison", [POISON - 1]))
        with pytest.raises(EngineDead):
            async for _ in asking:
                pass
        while not llm.alive:
            await asyncio.sleep(0)
        deltas = await gather(llm, request("after", [100], 3))
        assert [t for delta in deltas for t in delta.token_ids] == [101, 102, 103]

    run(folder, counting(folder), body)


def test_a_model_that_does_not_load_says_why(folder: Path) -> None:
    def fails(progress: Progress) -> tuple[EngineCore, DecoderSpec, Choice]:
        raise ConfigError("no such thing")

    async def main() -> None:
        llm = AsyncLLM(partial(thread_host, fails, "test"), Tokenizer.load(folder))
        with pytest.raises(ConfigError, match="no such thing"):
            await llm.wait_ready()
        assert not llm.alive
        await llm.close()

    asyncio.run(main())


class ShortLived:
    """An EngineHost whose engine ends as soon as it is waited for."""

    def send(self, command: Command) -> None:
        return None

    async def wait(self) -> InferdError:
        return EngineDead("short-lived")


@on_loop
async def test_starts_in_vain_are_tried_again_ever_more_slowly(folder: Path) -> None:
    starts = 0

    @asynccontextmanager
    async def start(hear: Hear) -> AsyncIterator[EngineHost]:
        nonlocal starts
        starts += 1
        hear(Loaded(512, ()))
        yield ShortLived()

    llm = AsyncLLM(start, Tokenizer.load(folder))
    assert (await llm.wait_ready()).max_len == 512
    await turns(12)
    assert starts == 2  # the first time at once
    for delay_s in (1, 2, 4, 8, 16, 30, 30):
        before = starts
        await clock().pass_time(delay_s - 0.5)
        await turns(12)
        assert starts == before
        await clock().pass_time(0.6)
        await turns(12)
        assert starts == before + 1
        assert not llm.alive
    await llm.close()


def test_the_first_delta_says_how_long_it_waited(folder: Path) -> None:
    async def body(llm: AsyncLLM) -> None:
        asked = request("timed", [100], 3)
        asked.arrival_s = time.monotonic() - 5.0
        first, *others = await gather(llm, asked)
        assert first.queue_s is not None
        assert 5.0 <= first.queue_s < 25.0
        assert [delta.queue_s for delta in others] == [None, None]

    run(folder, counting(folder), body)
