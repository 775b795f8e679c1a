"""Answers in Redis, for several servers and beyond a restart.

Redis being slow or away costs a miss and a warning, never an answer; then it is left alone for a
while. What comes from there is data: nothing of it is run.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from inferd.caching.answer import KeptAnswer, decode, encode
from inferd.config.cache import RedisOptions
from inferd.errors import ConfigError

PREFIX = b"inferd:1:"
"""Of every key; the number is that of the form in which answers are written."""

TIMEOUT_S = 0.25
"""How long Redis may take to connect, and for each word that it is to say."""

PAUSE_S = 2.0
"""How long it is not asked again after it has failed."""

CONNECTIONS = 16

_log = logging.getLogger("inferd.cache")


class RedisCache:
    """Holds answers in a Redis; how many, and for how long, is set there (`maxmemory`)."""

    usage = None

    def __init__(self, options: RedisOptions, clock_s: Callable[[], float] | None = None) -> None:
        self._client = _client(options)
        self._clock_s = clock_s
        self._not_before_s = 0.0
        self._where = f"{options.host}:{options.port}"

    async def get(self, key: bytes) -> KeptAnswer | None:
        """The answer to a request; None also where Redis does not answer, or holds something
        else."""
        data = await self._ask(lambda: self._client.get(PREFIX + key))
        if not isinstance(data, bytes):
            return None
        try:
            return decode(data)
        except ValueError as error:
            _log.warning("cache holds what is no answer", extra={"reason": str(error)})
            return None

    async def put(self, key: bytes, answer: KeptAnswer) -> None:
        """Keep an answer."""
        await self._ask(lambda: self._client.set(PREFIX + key, encode(answer)))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, question: Callable[[], Any]) -> Any:
        now_s = self._now_s()
        if now_s < self._not_before_s:
            return None
        try:
            return await question()
        except Exception as error:  # whatever it is, the model has the answer
            self._not_before_s = self._now_s() + PAUSE_S
            reason = str(error) or type(error).__name__
            _log.warning("cache does not answer", extra={"redis": self._where, "reason": reason})
            return None

    def _now_s(self) -> float:
        return (self._clock_s or asyncio.get_running_loop().time)()


def _client(options: RedisOptions) -> Any:
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise ConfigError(
            f"redis needs a package that is not installed ({error}); install it with: "
            "pip install 'inferd[redis]'",
            field="cache_config",
        ) from error
    pool = BlockingConnectionPool(
        host=options.host, port=options.port, db=options.db, username=options.user or None,
        password=options.password or None, max_connections=CONNECTIONS, timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0),
    )  # fmt: skip
    return Redis.from_pool(pool)
