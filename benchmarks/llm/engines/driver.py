"""How a task is asked of an engine: one loop for all, over what each engine's program opens.

It refuses to know any engine. It must import in every engine's environment, so it needs numpy only.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from benchmarks.llm.tasks import TASKS, Task, Timing

WARM = Task("warm", streams=2, prompt=16, output=4)
BORN = time.perf_counter()


class Engine(Protocol):
    """An engine with the model loaded."""

    def add(self, id: str, prompt: list[int], output: int) -> None:
        """One greedy request that ends after `output` tokens and not before."""

    def step(self) -> list[str]:
        """Go on; the ids of requests that got a token, once for each token."""

    @property
    def has_work(self) -> bool:
        """Whether a request has not ended."""

    @property
    def process_id(self) -> int:
        """Where the weights are."""

    def close(self) -> None:
        """Give all back."""


def serve_job(open_engine: Callable[[Path, str, Task], Engine], *, reopen: bool) -> None:
    """Answer a job on standard input ({"model", "form", "tasks", "round"}) with a line a task.

    `reopen` starts the engine anew for each task; else the first task's serves all.
    """
    job = json.load(sys.stdin)
    engine: Engine | None = None
    started = BORN
    start_s = 0.0
    try:
        for name in job["tasks"]:
            task = TASKS[name]
            if engine is None:
                engine = open_engine(Path(job["model"]), job["form"], task)
                start_s = time.perf_counter() - started
            run(engine, WARM, round=99)
            figures = run(engine, task, job["round"]).figures(task)
            figures |= {"start_s": start_s, "resident_gb": resident_gb(engine.process_id)}
            sys.stdout.write(json.dumps(figures) + "\n")
            sys.stdout.flush()
            if reopen:
                engine.close()
                engine, started = None, time.perf_counter()
    finally:
        if engine is not None:
            engine.close()


def run(engine: Engine, task: Task, round: int) -> Timing:
    """One task."""
    prompts = task.prompts(round)
    timing = Timing(ask(engine, task, prompts, f"{task.name}-{round}"))
    if task.again:
        timing.again = ask(engine, task, prompts, f"{task.name}-{round}-again")
    return timing


def ask(engine: Engine, task: Task, prompts: list[list[int]], name: str) -> list[list[float]]:
    """Seconds of each token of each stream; the intruder's are left out."""
    start = time.perf_counter()
    times: dict[str, list[float]] = {}
    for number, prompt in enumerate(prompts):
        times[f"{name}-{number}"] = []
        engine.add(f"{name}-{number}", prompt, task.output)
    intruder = task.intruder
    while engine.has_work:
        for id in engine.step():
            if id in times:
                times[id].append(time.perf_counter() - start)
        if intruder and min(map(len, times.values())) >= task.output // 8:
            random = Task("intruder", 1, intruder, 1).prompts(len(name))
            engine.add(f"{name}-intruder", random[0], 1)
            intruder = 0
    short = {id: len(stamps) for id, stamps in times.items() if len(stamps) != task.output}
    if short:
        raise SystemExit(f"not {task.output} tokens: {short}")
    return list(times.values())


def resident_gb(process_id: int) -> dict[str, Any]:
    """Memory of a process now in 1e9 bytes: its own, and what it maps from files."""
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    said = dict(line.split(":", 1) for line in lines)
    return {
        name: int(said[key].split()[0]) * 1024 / 1e9
        for name, key in (("own", "RssAnon"), ("files", "RssFile"))
    }


def this_process() -> int:
    """For an engine that runs here."""
    return os.getpid()
