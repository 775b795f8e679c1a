"""Load from gRPC clients as users have them: tritonclient on grpc.aio, many calls in flight on one
connection, in a process of its own (`python -m benchmarks.grpc_callers`)."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tritonclient.grpc.aio import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from benchmarks.load import Figures, LoadError
from benchmarks.wires import FLOATS, tensor
from benchmarks.workloads import GRPC, Workload

ROOT = Path(__file__).parents[1]
WARM_SECONDS = 1.0
GRACE_SECONDS = 60


def load(port: int, workload: Workload, in_flight: int, seconds: float) -> Figures:
    """Runs the clients' process and reads what it measured."""
    told = [str(port), workload.name, str(in_flight), str(seconds)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.grpc_callers", *told],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + WARM_SECONDS + GRACE_SECONDS,
    )
    if done.returncode != 0:
        raise LoadError(f"the gRPC clients failed: {done.stderr.strip()}")
    return Figures(**json.loads(done.stdout))


@dataclass
class Tally:
    """How long each answered call took, and how many were not answered."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0


async def measure(port: int, workload: Workload, in_flight: int, seconds: float) -> Figures:
    """Keeps so many calls in flight for a time, each row in turn."""
    async with InferenceServerClient(f"127.0.0.1:{port}") as client:
        await keep_calling(client, workload, in_flight, WARM_SECONDS)
        start = time.perf_counter()
        tally = await keep_calling(client, workload, in_flight, seconds)
        taken = time.perf_counter() - start
    if not tally.seconds:
        raise LoadError("nothing was answered")
    p50, p99 = np.percentile(tally.seconds, (50, 99)) * 1000
    return Figures(len(tally.seconds) / taken, float(p50), float(p99), tally.refused, 0)


async def keep_calling(
    client: InferenceServerClient, workload: Workload, in_flight: int, seconds: float
) -> Tally:
    """All callers for a time."""
    tally, end = Tally(), time.perf_counter() + seconds
    rows = workload.rows().astype(FLOATS[workload.datatype])

    async def caller(number: int) -> None:
        while (start := time.perf_counter()) < end:
            row = rows[number % len(rows)]
            described = InferInput(**tensor(workload, row))
            described.set_data_from_numpy(row.reshape(described.shape()))
            try:
                answer = await client.infer(workload.name, [described])
                answer.as_numpy(answer.get_response().outputs[0].name)
                tally.seconds.append(time.perf_counter() - start)
            except InferenceServerException:
                tally.refused += 1
            number += in_flight

    await asyncio.gather(*(caller(number) for number in range(in_flight)))
    return tally


if __name__ == "__main__":
    port, name, in_flight, seconds = sys.argv[1:]
    figures = asyncio.run(measure(int(port), GRPC[name], int(in_flight), float(seconds)))
    print(json.dumps(asdict(figures)))
