"""What frameworks do without any server: the most that a served model could reach."""

import importlib.util
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.frameworks.table import FRAMEWORKS
from benchmarks.workloads import Task, Workload

BATCHES = (1, 2, 4, 8, 16, 32)
ROOT = Path(__file__).parent.parent


class FrameworkError(Exception):
    """A framework is missing, or its process failed."""


def items_per_second(task: Task, seconds: float) -> Iterator[tuple[int, float]]:
    """Measures the encoder through ONNX Runtime at each batch size for a time; gives size and items
    a second."""
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


def framework_task(workload: Workload, python: Path, folder: Path) -> Task:
    """The workload with its model, which is written unless that was done before; raises
    FrameworkError."""
    framework = FRAMEWORKS[workload.model]
    if importlib.util.find_spec(framework.package) is None:
        raise FrameworkError(f"{framework.package} is not installed")
    # A folder each, as inferd may take whatever else lies beside a model.
    model = folder / "frameworks" / framework.name / framework.file
    rows, answers = (model.with_name(f"{workload.name}-{k}.npy") for k in ("rows", "answers"))
    if not answers.exists():
        model.parent.mkdir(parents=True, exist_ok=True)
        np.save(rows, workload.rows())
        _run(python, "write", framework.name, str(model))
        _run(python, "answer", framework.name, str(model), str(rows), str(answers))
    return Task(workload, model, answers)


def framework_items_per_second(
    task: Task, python: Path, seconds: float
) -> Iterator[tuple[int, float]]:
    """Measures a framework by itself, in a process of its own, on all cores that the workload has;
    gives batch size and items a second. Raises FrameworkError."""
    assert task.answers is not None
    rows = str(task.answers).replace("-answers.npy", "-rows.npy")
    workload = task.workload
    found = _run(
        python, "offline", workload.model, str(task.model), rows, str(seconds),
        str(workload.threads),
    )  # fmt: skip
    for line in found.splitlines():
        if line.startswith("{"):
            figures = json.loads(line)
            yield figures["batch"], figures["items_per_second"]


def _run(python: Path, *arguments: str) -> str:
    command = [str(python), "-m", "benchmarks.frameworks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FrameworkError("\n".join(done.stderr.splitlines()[-8:]))
    return done.stdout
