"""Against a real Redis, and against none."""

import asyncio
import logging
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inferd.caching.answer import KeptAnswer, kept
from inferd.caching.redis import PAUSE_S, PREFIX, RedisCache
from inferd.config.cache import RedisOptions
from inferd.types.datatype import FP32
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Tensor

pytest.importorskip("redis")


def answer(value: float) -> KeptAnswer:
    return kept(InferenceResponse("m", "1", [Tensor("y", FP32, np.full(3, value, np.float32))]))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisOptions]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    folder: Path = tmp_path_factory.mktemp("redis")
    port = free_port()
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        else:
            raise AssertionError("redis-server has ended")
        yield RedisOptions(host="127.0.0.1", port=port)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_answers_are_there_for_every_server(redis: RedisOptions) -> None:
    async def run() -> None:
        one, other = RedisCache(redis), RedisCache(redis)
        assert await one.get(b"k") is None
        await one.put(b"k", answer(1))
        assert await other.get(b"k") == answer(1)
        await asyncio.gather(*[one.put(bytes([i]), answer(i)) for i in range(50)])
        assert await asyncio.gather(*[one.get(bytes([i])) for i in range(50)]) == [
            answer(i) for i in range(50)
        ]
        await one.close()
        await other.close()

    asyncio.run(run())


def test_what_is_no_answer_is_a_miss(redis: RedisOptions, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        cache = RedisCache(redis)
        await cache._client.set(PREFIX + b"bad", b"\x80\x04cos\nsystem\n")
        with caplog.at_level(logging.WARNING, "inferd.cache"):
            assert await cache.get(b"bad") is None
        await cache.close()

    asyncio.run(run())
    assert "no answer" in caplog.text


def test_a_redis_that_is_away_is_a_miss_and_left_alone_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0

    async def run() -> None:
        nonlocal now
        cache = RedisCache(RedisOptions(host="127.0.0.1", port=free_port()), lambda: now)
        with caplog.at_level(logging.WARNING, "inferd.cache"):
            assert await cache.get(b"k") is None
            await cache.put(b"k", answer(1))
            assert len(caplog.records) == 1
            now += PAUSE_S
            assert await cache.get(b"k") is None
            assert len(caplog.records) == 2
        await cache.close()

    asyncio.run(run())


def test_a_redis_that_says_nothing_costs_a_moment() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        async def run() -> None:
            cache = RedisCache(RedisOptions(host="127.0.0.1", port=port))
            assert await asyncio.wait_for(cache.get(b"k"), 5) is None
            await cache.close()

        asyncio.run(run())
