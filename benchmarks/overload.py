"""Twice the load that a server can carry, sent at a fixed rate: what still gets through, and how
soon the rest is refused.

The client shares the machine with the server, so the model is one that takes milliseconds: what
the client costs is then a few hundredths of a core.
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
MOST_FILLING_S = 60


@dataclass(frozen=True)
class Overload:
    """Answers a second under a load that can be carried, and under twice as much.

    `peak` is the larger of one measurement before and one after; `filled_s` is how long the queue
    took to fill, which is not part of the measurement.
    """

    peak: float
    filled_s: float
    offered: float
    goodput: float
    refused: float
    refused_p50_ms: float
    unsent: int


@dataclass
class Tally:
    """What came back since the first refusal, after which the queue is full."""

    start: float = 0.0
    seconds: float = 0.0
    first_refusal: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    refusal_times: list[float] = field(default_factory=list)
    unsent: int = 0


def measure_overload(load: Load, seconds: float) -> Overload:
    """Finds the peak with busy connections, then offers twice as much."""
    before = load.run(PEAK_CONNECTIONS, seconds).requests_per_second
    offered = 2 * before
    tally = asyncio.run(offer(load.endpoint, load.message, offered, seconds))
    load.drain()
    after = load.run(PEAK_CONNECTIONS, seconds).requests_per_second
    refused = sum(count for status, count in tally.statuses.items() if status != 200)
    return Overload(
        peak=max(before, after),
        filled_s=tally.first_refusal - tally.start,
        offered=offered,
        goodput=tally.statuses[200] / tally.seconds,
        refused=refused / tally.seconds,
        refused_p50_ms=statistics.median(tally.refusal_times or [0.0]) * 1000,
        unsent=tally.unsent,
    )


async def offer(endpoint: Endpoint, message: Message, rate: float, seconds: float) -> Tally:
    """Sends at a fixed rate, each request on a connection that is free, until the queue has been
    full for a time, and counts."""
    tally = Tally(start=time.perf_counter(), seconds=seconds)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await Connection.open(endpoint, message))
    tasks = set()
    start = tally.start = time.perf_counter()
    for number in range(int(rate * (MOST_FILLING_S + seconds))):
        if tally.first_refusal and time.perf_counter() > tally.first_refusal + seconds:
            break
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
    now = time.perf_counter()
    if status != 200 and not tally.first_refusal:
        tally.first_refusal = now
    if tally.first_refusal <= now < tally.first_refusal + tally.seconds:
        tally.statuses[status] += 1
        if status != 200:
            tally.refusal_times.append(now - start)
    free.put_nowait(connection)
