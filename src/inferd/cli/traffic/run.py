"""The two kinds of load. Closed: so many clients, each asks again when it is answered. Open:
requests come when they come, whether those before are answered or not.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from inferd.cli.traffic.connection import Connection, Target
from inferd.cli.traffic.trace import Trace

Told = Callable[[Trace], None]
"""Called with each request that has ended."""


class Load:
    """Requests to one target. A request that takes longer than `timeout_s` has failed."""

    def __init__(self, target: Target, timeout_s: float, told: Told | None = None) -> None:
        self._target = target
        self._timeout_s = timeout_s
        self._told = told
        self._idle: list[Connection] = []

    async def closed(self, bodies: Sequence[bytes], clients: int) -> list[Trace]:
        """Each body once, `clients` at a time."""
        traces: list[Trace] = []
        requests = iter([self._target.request(body) for body in bodies])

        async def client() -> None:
            mine = [await self._one(request, time.perf_counter()) for request in requests]
            traces.extend(mine)

        await asyncio.gather(*(client() for _ in range(min(clients, len(bodies)))))
        return traces

    async def open(self, bodies: Sequence[bytes], rate: float, seed: int) -> list[Trace]:
        """Each body once, `rate` a second on average, as a Poisson process has them."""
        rng = random.Random(seed)
        requests = [self._target.request(body) for body in bodies]
        running = []
        due_s = time.perf_counter()
        for request in requests:
            due_s += rng.expovariate(rate)
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            running.append(asyncio.create_task(self._one(request, due_s)))
        return list(await asyncio.gather(*running))

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # a transport is closed at the loop's next turn

    async def _one(self, request: bytes, due_s: float) -> Trace:
        trace = Trace(due_s)
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._take()
                await connection.ask(request, trace)
            if connection.usable:
                self._idle.append(connection)
            else:
                connection.close()
        except TimeoutError:
            trace.error = f"no whole answer within {self._timeout_s:g} s"
        except OSError as error:
            trace.error = f"cannot connect: {error.strerror or error}"
        if self._told is not None:
            self._told(trace)
        return trace

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return await self._target.connect()
