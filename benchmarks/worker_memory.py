"""A 4 MB tensor to a worker and back without HTTP: what shared memory costs.

`python -m benchmarks.worker_memory SECONDS` drives a WorkerPool as a batcher does, one batch of one
request at a time, and prints a line of JSON. Three models: one that takes the tensor and answers
with one number, one that is given a number and answers with a tensor that it has, one that answers
with what it was given. A way's GB/s are the tensor's bytes by the whole time of a batch, messages
and waking the other process included.

How many times the bytes are copied: inward once, by `pack` in `workers/memory.py`, from where the
caller has them into the window that both processes have mapped; the model is handed a view of the
window, which the first model proves by answering with the number of its input's own bytes that lie
outside a mapping. Outward once by `pack`, from where the model has its result into the window, and
once by `unpack`, out of the window, since the window is used again. No byte goes through the
socket: tensors above INLINE_BYTES are named there by their offset. `copy_gb_per_second` is one such
copy alone, on this machine, for comparison.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FLOATS = 1 << 20
BYTES = 4 * FLOATS
WARM = 20
MODELS = Path(__file__).parent / "peers" / "inferd" / "tensors.py"
ROOT = Path(__file__).parent.parent


class WorkersError(Exception):
    """The process that drives the workers failed."""


def measure_workers(python: Path, seconds: float) -> dict[str, float]:
    """Runs this module with inferd's Python and gives its figures; raises WorkersError."""
    command = [str(python), "-m", "benchmarks.worker_memory", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkersError(done.stderr[-2000:])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


async def seconds_a_batch(name: str, array: Any, seconds: float) -> tuple[float, Any]:
    """Median time of a batch in a worker that runs one of the models, and the last output."""
    from inferd.batching.batch import Batch
    from inferd.batching.batcher import BatchResult
    from inferd.batching.queue import QueuedRequest
    from inferd.config.model import ModelConfig
    from inferd.serving.worker_pool import WorkerPool
    from inferd.types.inference import InferenceRequest
    from inferd.workers.culprits import Culprits
    from inferd.workers.messages import Start
    from inferd.workers.process import Worker

    async def start(hear: Callable[[Any], None], ended: Callable[[Any], None]) -> Worker:
        worker = Worker(name, hear, ended)
        told = Start(name, "python", f"{MODELS}:{name}", ModelConfig(), 1, False, "cpu", 30)
        await worker.start(sys.executable, told, {})
        return worker

    pool = WorkerPool(name, start, lambda seat, ask: None, Culprits())
    loop = asyncio.get_running_loop()
    pool.set_terms((await pool.open()).terms, ModelConfig())
    await pool.grow(1)
    request = InferenceRequest(name, "1", [])
    times: list[float] = []
    output: Any = None
    try:
        end = time.perf_counter() + seconds
        while len(times) < WARM or time.perf_counter() < end:
            item = QueuedRequest(request, [array], 1, None, None, lambda answer: None, 0)
            answered: asyncio.Future[BatchResult] = loop.create_future()
            start_s = time.perf_counter()
            pool.run(Batch([item], 1), lambda batch, result, to=answered: to.set_result(result))
            result = await answered
            times.append(time.perf_counter() - start_s)
            if result.error is not None:
                raise result.error
            output = result.outputs[0]
    finally:
        await pool.aclose()
    return float(np.median(times[WARM // 2 :])), output


async def main() -> None:
    """Measures the three models and one copy."""
    seconds = float(sys.argv[1]) / 3
    tensor = np.random.default_rng(1).normal(size=FLOATS).astype(np.float32)
    number = np.zeros(1, np.float32)
    inward, outside = await seconds_a_batch("Takes", tensor, seconds)
    outward, _ = await seconds_a_batch("Gives", number, seconds)
    both, back = await seconds_a_batch("Returns", tensor, seconds)
    if not np.array_equal(back, tensor):
        raise SystemExit("another tensor came back")
    there = np.empty_like(tensor)
    start, copies = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < 0.3:
        np.copyto(there, tensor)
        copies += 1
    figures = {
        "in_gb_per_second": BYTES / inward / 1e9,
        "out_gb_per_second": BYTES / outward / 1e9,
        "both_gb_per_second_each_way": BYTES / both / 1e9,
        "copy_gb_per_second": BYTES * copies / passed / 1e9,
        "input_outside_shared_memory_bytes": float(outside[0]),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
