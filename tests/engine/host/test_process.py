"""An engine in a process of its own: the tokens of a thread, and a death that is survived."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from inferd.config.engine import EngineConfig
from inferd.engine.async_llm import AsyncLLM
from inferd.engine.host import process
from inferd.engine.host.base import StartHost
from inferd.engine.host.process import process_host
from inferd.engine.host.thread import thread_host
from inferd.engine.loading import load_core
from inferd.engine.text.tokenizer import Tokenizer
from inferd.errors import ConfigError, EngineDead, InvalidRequest, ModelUnavailable
from inferd.processes import life
from inferd.types.generation import GenerationDelta, GenerationRequest, SamplingParams
from tiny_llama import MAX_LEN, write_tiny_llama

Body = Callable[[AsyncLLM], Coroutine[Any, Any, Any]]

CONFIG = EngineConfig(packed_cache=False, isolation="process")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("host") / "tiny")


def within(folder: Path, start: StartHost, body: Body) -> Any:
    """What `body` says of an engine; it has ended afterwards, and nothing of it is left."""

    async def main() -> Any:
        llm = AsyncLLM(start, Tokenizer.load(folder))
        async with asyncio.timeout(60):
            await llm.wait_ready()
            try:
                return await body(llm)
            finally:
                await llm.close()
                assert children() == []

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def in_process(folder: Path, body: Body) -> Any:
    return within(folder, partial(process_host, folder, CONFIG), body)


def children() -> list[psutil.Process]:
    """Engines that this process has started, and not servers of other tests. One that has ended
    and was not waited for has no command line any more."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() == psutil.STATUS_ZOMBIE or process.CHILD in child.cmdline()
    ]


def request(id: str, tokens: list[int], count: int = 8, **params: Any) -> GenerationRequest:
    chosen = SamplingParams(max_tokens=count, ignore_eos=True, **{"temperature": 0} | params)
    return GenerationRequest(id=id, prompt_token_ids=tokens, params=chosen)


async def gather(llm: AsyncLLM, wanted: GenerationRequest) -> list[GenerationDelta]:
    return await rest_of(llm.generate(wanted))


async def rest_of(stream: AsyncIterator[list[GenerationDelta]]) -> list[GenerationDelta]:
    return [delta async for deltas in stream for delta in deltas]


def told(deltas: list[GenerationDelta]) -> list[Any]:
    """What deltas say, but for times."""
    names = [name for name in GenerationDelta.__struct_fields__ if name != "queue_s"]
    return [[getattr(delta, name) for name in names] for delta in deltas]


def test_a_process_says_what_a_thread_says(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(llm: AsyncLLM) -> list[Any]:
        wanted = [
            request("plain", [5, 6, 7], 40),
            request("scored", [9, 8, 7, 6], 5, logprobs=3, prompt_logprobs=2),
            request("two", [20, 21], 12, n=2, temperature=1.0, seed=3),
        ]
        answers = [told(await gather(llm, asked)) for asked in wanted]
        together = await asyncio.gather(*(gather(llm, asked) for asked in wanted))
        for one in together:  # a stream that runs beside others comes in other pieces
            assert one[-1].finish_reason == "length"
        text = "".join(delta[2] for delta in answers[0])
        stop = text[len(text) // 2 :][:3]
        stopped = await gather(llm, request("stop", [5, 6, 7], 40, stop=(stop,)))
        assert (stopped[-1].finish_reason, stopped[-1].stop_reason) == ("stop", stop)
        assert "".join(delta.text for delta in stopped) == text[: text.index(stop)]
        with pytest.raises(InvalidRequest, match="maximum context length"):
            await gather(llm, request("long", [5] * MAX_LEN))
        async with aclosing(llm.generate(request("left", [50], 200))) as stream:
            await anext(stream)
        last = await gather(llm, request("next", [60, 61], 2))
        # The engine takes commands in order: behind this answer the blocks of both are free.
        assert (llm.in_flight, llm.gauges.running, llm.gauges.kv_usage) == (0, 0, 0.0)
        assert llm.gauges.prefix_queries > 0
        # Nothing that has not been through Intake should come here: the engine raises.
        with pytest.raises(EngineDead, match="the engine ended: ") as caught:
            await gather(llm, request("unchecked", [5], logit_bias={1 << 40: 1.0}))
        return [*answers, told(last), str(caught.value)]

    threaded = within(folder, partial(thread_host, partial(load_core, folder, CONFIG), "t"), body)
    assert in_process(folder, body) == threaded
    in_thread, across = (line for line in caplog.records if line.message == "the engine raised")
    assert in_thread.exc_info
    assert "Traceback" in (across.stack_info or "")


def test_a_process_that_is_killed_is_told_of_and_replaced(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(llm: AsyncLLM) -> None:
        (child,) = children()
        for number in (signal.SIGINT, signal.SIGTERM):  # what a server's group is sent at a stop
            os.kill(child.pid, number)
        assert await gather(llm, request("before", [100], 3))
        child.suspend()  # nobody is answered any more
        waiting = [
            asyncio.create_task(gather(llm, request(f"r{n}", [100 + n], 3))) for n in range(3)
        ]
        while llm.in_flight < 3:
            await asyncio.sleep(0)
        child.kill()
        for task in waiting:
            with pytest.raises(EngineDead, match="killed by SIGKILL"):
                await task
        assert (llm.alive, llm.in_flight) == (False, 0)
        with pytest.raises(EngineDead, match="started again"):
            await gather(llm, request("early", [100], 3))
        while not llm.alive:
            await asyncio.sleep(0.01)
        (successor,) = children()
        assert successor.pid != child.pid
        assert len(await gather(llm, request("after", [100], 3))) == 3
        # One that does not end by itself when its socket is closed, is ended.
        monkeypatch.setattr(life, "END_S", 0.1)
        successor.suspend()
        left = asyncio.create_task(gather(llm, request("left", [100], 3)))
        while not llm.in_flight:
            await asyncio.sleep(0)
        await llm.close()
        with pytest.raises(ModelUnavailable):
            await left

    in_process(folder, body)
    assert "killed by SIGKILL" in caplog.text


def test_a_process_that_cannot_load_says_why(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = EngineConfig(max_model_len=MAX_LEN + 1, isolation="process")

    async def main() -> None:
        llm = AsyncLLM(partial(process_host, folder, config), Tokenizer.load(folder))
        with pytest.raises(ConfigError, match="more than the model's own") as caught:
            await llm.wait_ready()
        assert caught.value.field == "max_model_len"
        assert (llm.alive, children()) == (False, [])
        await llm.close()

    with caplog.at_level(logging.INFO, "inferd.engine"):
        asyncio.run(main())
    assert [record.pid for record in caplog.records]  # type: ignore[attr-defined]


def test_a_start_that_is_given_up_leaves_no_process(folder: Path) -> None:
    async def main() -> None:
        llm = AsyncLLM(partial(process_host, folder, CONFIG), Tokenizer.load(folder))
        while not children():
            await asyncio.sleep(0)
        await llm.close()
        assert children() == []

    asyncio.run(main())
