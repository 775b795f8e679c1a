"""What ONNX Runtime does without any server: the most that a served model could reach."""

import time
from collections.abc import Iterator

import numpy as np

from benchmarks.workloads import Task

BATCHES = (1, 2, 4, 8, 16, 32)


def items_per_second(task: Task, seconds: float) -> Iterator[tuple[int, float]]:
    """Measures each batch size for a time; gives size and items a second."""
    session = task.session(task.workload.threads)
    rows = task.workload.rows()
    for size in BATCHES:
        feed = task.feed(np.resize(rows, (size, task.workload.width)))
        session.run(None, feed)
        start, items = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < seconds:
            session.run(None, feed)
            items += size
        yield size, items / passed
