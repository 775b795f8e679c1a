"""`python -m benchmarks.frameworks`: writes a framework's model with the right answers to some
rows, or runs it by batch size and prints a line of JSON for each. Writing and running are for
processes of their own: some frameworks take their number of threads once.

    write NAME MODEL
    answer NAME MODEL ROWS.npy ANSWERS.npy
    offline NAME MODEL ROWS.npy SECONDS THREADS
"""

import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.frameworks import networks, trees
from benchmarks.frameworks.runs import OPENERS, Rows
from benchmarks.frameworks.table import FRAMEWORKS

BATCHES = (1, 8, 32, 64, 128, 256, 1024, 2048)
WRITERS = {**networks.WRITERS, **trees.WRITERS}


def offline(name: str, model: Path, rows: Rows, seconds: float, threads: int) -> None:
    """Measures each batch size for a time, each time on other rows: of trees, a processor remembers
    the ways that it has just gone."""
    run = OPENERS[name](model, threads)
    for size in BATCHES:
        batches = np.resize(rows, (max(1, len(rows) // size), size, rows.shape[-1]))
        turns = itertools.cycle(batches)
        for _ in range(3):
            run(next(turns))
        start, done = time.perf_counter(), 0
        while (passed := time.perf_counter() - start) < seconds:
            run(next(turns))
            done += size
        print(json.dumps({"batch": size, "items_per_second": done / passed}), flush=True)


def main() -> None:
    """Does what the command line says."""
    task, name, model, *rest = sys.argv[1:]
    if task == "write":
        WRITERS[name](Path(model))
        return
    flat = np.load(rest[0]).astype({"FP32": "f4", "FP64": "f8"}[FRAMEWORKS[name].datatype])
    flat = np.ascontiguousarray(flat.reshape(-1, flat.shape[-1]))
    if task == "answer":
        np.save(rest[1], OPENERS[name](Path(model), 1)(flat))
    else:
        offline(name, Path(model), flat, float(rest[1]), int(rest[2]))


if __name__ == "__main__":
    main()
