"""Twice the load that a server can carry, sent at a fixed rate: what still gets through, and how
soon the rest is refused.
"""

import asyncio
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

from benchmarks.client import Endpoint
from benchmarks.load import Load
from benchmarks.wires import Message

PEAK_CONNECTIONS = 64
CONNECTIONS = 2048


@dataclass(frozen=True)
class Overload:
    """Answers a second under a load that can be carried, and under twice as much."""

    peak: float
    offered: float
    goodput: float
    refused: float
    refused_p50_ms: float
    unsent: int


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    refusal_times: list[float] = field(default_factory=list)
    unsent: int = 0


def measure_overload(load: Load, seconds: float) -> Overload:
    """Finds the peak with busy connections, then offers twice as much."""
    peak = load.run(PEAK_CONNECTIONS, seconds).requests_per_second
    offered = 2 * peak
    tally = asyncio.run(offer(load.endpoint, load.message, offered, seconds))
    load.drain()
    refused = sum(count for status, count in tally.statuses.items() if status != 200)
    return Overload(
        peak=peak,
        offered=offered,
        goodput=tally.statuses[200] / seconds,
        refused=refused / seconds,
        refused_p50_ms=statistics.median(tally.refusal_times or [0.0]) * 1000,
        unsent=tally.unsent,
    )


async def offer(endpoint: Endpoint, message: Message, rate: float, seconds: float) -> Tally:
    """Sends at a fixed rate, each request on a connection that is free, and counts."""
    tally = Tally()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await Connection.open(endpoint, message))
    start, tasks = time.perf_counter(), set()
    for number in range(int(rate * seconds)):
        ahead = start + number / rate - time.perf_counter()
        if ahead > 0.001:
            await asyncio.sleep(ahead)
        if free.empty():
            await asyncio.sleep(0)
            if free.empty():
                tally.unsent += 1
                continue
        task = asyncio.create_task(ask(free.get_nowait(), free, tally))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    while not free.empty():
        free.get_nowait().writer.close()
    return tally


@dataclass
class Connection:
    """One connection and the bytes that it sends again and again."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: bytes

    @classmethod
    async def open(cls, endpoint: Endpoint, message: Message) -> "Connection":
        """Connects."""
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        headers = "".join(f"{name}: {value}\r\n" for name, value in message.headers.items())
        head = (
            f"POST {endpoint.path} HTTP/1.1\r\nHost: bench\r\n{headers}"
            f"Content-Length: {len(message.body)}\r\n\r\n"
        )
        return cls(reader, writer, head.encode() + message.body)


async def ask(connection: Connection, free: "asyncio.Queue[Connection]", tally: Tally) -> None:
    """One request and its answer."""
    start = time.perf_counter()
    connection.writer.write(connection.request)
    head = await connection.reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    await connection.reader.readexactly(length)
    tally.statuses[status] += 1
    if status != 200:
        tally.refusal_times.append(time.perf_counter() - start)
    free.put_nowait(connection)
