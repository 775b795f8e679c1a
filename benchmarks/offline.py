"""What frameworks do without any server: the most that a served model could reach."""

import hashlib
import importlib.metadata
import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.frameworks.table import FRAMEWORKS
from benchmarks.workloads import Task, Workload

BATCHES = (1, 2, 4, 8, 16, 32)
ROOT = Path(__file__).parent.parent
KEPT = ("rows.npy", "answers.npy")
SOURCES = sorted((Path(__file__).parent / "frameworks").glob("*.py"))


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
    providers = importlib.metadata.packages_distributions().get(framework.package)
    if not providers:
        raise FrameworkError(f"{framework.package} is not installed")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in sorted(set(providers))]
    # A folder each, as inferd may take whatever else lies beside a model.
    place = folder / "frameworks" / f"{workload.name}-{made_of(workload, versions)}"
    model, rows, answers = (place / name for name in (framework.file, *KEPT))
    if not answers.exists():
        model.parent.mkdir(parents=True, exist_ok=True)
        np.save(rows, workload.rows())
        _run(python, "write", framework.name, str(model))
        _run(python, "answer", framework.name, str(model), str(rows), str(answers))
    return Task(workload, model, answers)


def made_of(workload: Workload, versions: Iterable[str]) -> str:
    """All that decides a framework's model and its answers, in short: the sources that write them,
    the rows, and the framework. What is kept of another is not used."""
    parts = [workload.rows().tobytes(), *(source.read_bytes() for source in SOURCES)]
    return hashlib.sha256(b"".join((*parts, " ".join(versions).encode()))).hexdigest()[:12]


def framework_items_per_second(
    task: Task, python: Path, seconds: float
) -> Iterator[tuple[int, float]]:
    """Measures a framework by itself, in a process of its own, on all cores that the workload has;
    gives batch size and items a second. Raises FrameworkError."""
    assert task.answers is not None
    workload, rows = task.workload, task.answers.with_name(KEPT[0])
    found = _run(
        python, "offline", workload.model, str(task.model), str(rows), str(seconds),
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
