"""What streams cost whose clients read slowly: memory, and the time of others' calls.

The readers are a process of their own (`python -m benchmarks.slow_streams`), which says when every
stream has had its first part, and ends when its input does.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from benchmarks.calls import OPTIONS, connected, request
from benchmarks.load import LoadError
from benchmarks.processes import ServerProcess
from benchmarks.workloads import PARTS, Workload

ROOT = Path(__file__).parents[1]
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
CONNECTIONS = 10
STREAMS = 1_000
PAUSE_SECONDS = 5.0
CALLING_SECONDS = 10.0
OPENING_SECONDS = 60.0

SLOW = (*OPTIONS, ("grpc.http2.bdp_probe", 0))
"""Without it grpcio makes its windows larger while data comes, and takes megabytes of each stream
that its reader has not asked for."""


@dataclass(frozen=True)
class SlowCost:
    """Before, with and after the streams: MiB, shared pages counted once, and p50 of one client
    that calls. `parts` is how many the readers took meanwhile."""

    streams: int
    parts: int
    failed: int
    pss_before: float
    pss_with: float
    pss_after: float
    p50_before_ms: float
    p50_with_ms: float
    p50_after_ms: float


def measure_slow_streams(process: ServerProcess, workload: Workload) -> SlowCost:
    """Opens the streams and measures beside them."""
    message = request(workload, workload.rows()[0])
    command = [sys.executable, "-m", "benchmarks.slow_streams", str(process.grpc_port)]
    with connected(process.grpc_port) as call:
        p50_before = p50_ms(call, message)
        before = process.memory().pss
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as readers:
            assert readers.stdout is not None
            if not readers.stdout.readline():
                raise LoadError("the slow readers could not open their streams")
            opened = process.memory().pss
            p50_with = p50_ms(call, message)
            held = process.memory().pss
            told, _ = readers.communicate(timeout=OPENING_SECONDS)
        p50_after = p50_ms(call, message)
    found = json.loads(told)
    return SlowCost(
        STREAMS, found["parts"], found["failed"], before, max(opened, held), process.memory().pss,
        p50_before, p50_with, p50_after,
    )  # fmt: skip


def p50_ms(call: grpc.UnaryUnaryMultiCallable, message: bytes) -> float:
    """The median time of calls one after the other."""
    times = []
    end = time.perf_counter() + CALLING_SECONDS
    while (start := time.perf_counter()) < end:
        call(message, timeout=OPENING_SECONDS)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


class Reader:
    """One stream, which is asked for one answer of many parts and then read slowly."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = channel.stream_stream(STREAM_INFER)()
        self.parts = 0
        self.failed = False

    async def open(self, message: bytes) -> None:
        """Asks, and waits for the first part."""
        await self._call.write(message)
        await self._take()

    async def read(self, delay: float) -> None:
        """Takes a part from time to time, for as long as the stream lasts."""
        try:
            while True:
                await asyncio.sleep(delay)
                await self._take()
                delay = PAUSE_SECONDS
        except (grpc.aio.AioRpcError, EOFError):
            self.failed = True

    async def _take(self) -> None:
        part = await self._call.read()
        if part is grpc.aio.EOF:
            raise EOFError
        error = service_pb2.ModelStreamInferResponse.FromString(part).error_message
        if error:
            raise EOFError(error)
        self.parts += 1


async def read_slowly(port: int) -> None:
    """Holds all streams until the input ends."""
    message = request(PARTS, np.zeros(PARTS.width))
    channels = [
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=SLOW) for _ in range(CONNECTIONS)
    ]
    readers = [Reader(channels[index % CONNECTIONS]) for index in range(STREAMS)]
    async with asyncio.timeout(OPENING_SECONDS):
        await asyncio.gather(*(reader.open(message) for reader in readers))
    print(json.dumps({"open": len(readers)}), flush=True)
    delays = np.linspace(0, PAUSE_SECONDS, STREAMS)
    reading = [
        asyncio.create_task(reader.read(float(delay)))
        for reader, delay in zip(readers, delays, strict=True)
    ]
    await asyncio.to_thread(sys.stdin.read)
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    await asyncio.gather(*(channel.close() for channel in channels))
    parts, failed = sum(r.parts for r in readers), sum(r.failed for r in readers)
    print(json.dumps({"parts": parts, "failed": failed}))


if __name__ == "__main__":
    asyncio.run(read_slowly(int(sys.argv[1])))
