"""A load generator in a process of its own: closed loop, or open loop at a rate; prints JSON.

    python overload_client.py PORT MODEL CONNECTIONS SECONDS [RATE]

Without a rate each connection asks again as soon as it is answered; with one, requests leave at
their time whatever the server does, on whichever connection is free.
"""

import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field

BODY = b'{"inputs":[{"name":"INPUT0","shape":[1,1],"datatype":"FP32","data":[0.0]}]}'


@dataclass(slots=True)
class Result:
    """Seconds of each answer by status, and what should not have happened."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    refused_without_retry_after: int = 0
    unsent: int = 0
    broken: int = 0
    elapsed_s: float = 0.0
    """From the first request to the last answer."""

    def summary(self) -> dict[str, float]:
        """What the test looks at."""
        good, refused = self.seconds.get(200, []), self.seconds.get(503, [])
        return {
            "goodput": len(good) / self.elapsed_s,
            "good": len(good),
            "refused": len(refused),
            "other": sum(map(len, self.seconds.values())) - len(good) - len(refused),
            "good_p50_ms": statistics.median(good) * 1e3 if good else 0.0,
            "refused_p50_ms": statistics.median(refused) * 1e3 if refused else 0.0,
            "refused_without_retry_after": self.refused_without_retry_after,
            "unsent": self.unsent,
            "broken": self.broken,
        }


class Connection:
    """One connection that asks one request at a time."""

    def __init__(self, port: int, model: str, result: Result) -> None:
        self._port = port
        self._result = result
        self._request = (
            b"POST /v2/models/%b/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
            % (model.encode(), len(BODY), BODY)
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Connect."""
        self._streams = await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self) -> None:
        """One request, timed from the moment it leaves."""
        assert self._streams is not None
        reader, writer = self._streams
        start_s = time.perf_counter()
        try:
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            self._result.broken += 1
            await self.open()
            return
        status = int(head[9:12])
        self._result.seconds.setdefault(status, []).append(time.perf_counter() - start_s)
        if status == 503 and b"\r\nretry-after: " not in head:
            self._result.refused_without_retry_after += 1

    def close(self) -> None:
        """Close."""
        if self._streams is not None:
            self._streams[1].close()


async def closed_loop(connections: list[Connection], seconds: float) -> None:
    """Every connection asks again and again."""
    end_s = time.perf_counter() + seconds

    async def loop(connection: Connection) -> None:
        while time.perf_counter() < end_s:
            await connection.ask()

    await asyncio.gather(*[loop(connection) for connection in connections])


async def open_loop(
    connections: list[Connection], seconds: float, rate: float, result: Result
) -> None:
    """Requests leave at a fixed rate."""
    free = list(connections)
    tasks: set[asyncio.Task[None]] = set()

    async def use(connection: Connection) -> None:
        await connection.ask()
        free.append(connection)

    start_s = time.perf_counter()
    for number in range(int(seconds * rate)):
        ahead_s = start_s + number / rate - time.perf_counter()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        if free:
            task = asyncio.create_task(use(free.pop()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        else:
            result.unsent += 1
    await asyncio.gather(*tasks)


async def run(port: int, model: str, count: int, seconds: float, rate: float) -> Result:
    """Connect, ask, close."""
    result = Result()
    connections = [Connection(port, model, result) for _ in range(count)]
    for connection in connections:
        await connection.open()
    start_s = time.perf_counter()
    if rate:
        await open_loop(connections, seconds, rate, result)
    else:
        await closed_loop(connections, seconds)
    result.elapsed_s = time.perf_counter() - start_s
    for connection in connections:
        connection.close()
    return result


def main() -> None:
    """The command line."""
    port, model, count, seconds = sys.argv[1:5]
    rate = float(sys.argv[5]) if len(sys.argv) > 5 else 0.0
    result = asyncio.run(run(int(port), model, int(count), float(seconds), rate))
    print(json.dumps(result.summary()))


if __name__ == "__main__":
    main()
