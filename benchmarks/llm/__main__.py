"""`python -m benchmarks.llm`: engines beside each other on one model, in alternating rounds."""

import argparse
import json
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.llm.model import ensure_model
from benchmarks.llm.tasks import TASKS
from benchmarks.venvs import cache_folder
from inferd.observability.machine import describe_machine

FORMS = {"inferd": ("bfloat16", "int8", "int4")}
RESULTS = Path(__file__).parents[1] / "results"
FIGURES = (
    "output_tokens_per_second", "decode_tokens_per_second", "first_token_s", "first_token_again_s",
    "gap_p99_ms",
)  # fmt: skip


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm", description=__doc__)
    parser.add_argument("--only", default="inferd", help="engines, by comma")
    parser.add_argument("--forms", default="", help="forms of weights, by comma; default all")
    parser.add_argument("--tasks", default=",".join(TASKS), help="by comma")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    console = Console()
    model = ensure_model(cache_folder() / "llm" / "llama-1b")
    records: list[dict[str, Any]] = []
    bandwidth = []
    for number in range(options.rounds):
        bandwidth.append(read_bandwidth())
        for engine in options.only.split(","):
            for form in options.forms.split(",") if options.forms else FORMS[engine]:
                console.print(f"round {number + 1}: {engine} {form}", markup=False)
                tasks = options.tasks.split(",")
                job = {"model": str(model), "form": form, "tasks": tasks, "round": number}
                told = {"engine": engine, "form": form, "round": number}
                records += [record | told for record in run(engine, job)]
    machine = describe_machine()
    header = {
        "processor": machine.cpu_model,
        "instruction_sets": machine.instruction_sets,
        "cores": machine.cores_available,
        "read_gb_per_s": bandwidth,
    }
    console.print(header)
    console.print(table(records))
    path = RESULTS / f"{date.today()}-llm.json"
    path.write_text(json.dumps({"machine": header, "records": records}, indent=1))
    console.print(f"written: {path}", markup=False)


def run(engine: str, job: dict[str, Any]) -> list[dict[str, Any]]:
    """One engine in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", f"benchmarks.llm.engines.{engine}"], input=json.dumps(job),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode:
        raise SystemExit(f"{engine} failed:\n{ended.stderr[-2000:]}")
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]


def read_bandwidth() -> float:
    """Bytes a second in 1e9 that all cores together read from memory."""
    from concurrent.futures import ThreadPoolExecutor
    from time import perf_counter

    cores = describe_machine().cores_available
    parts = [np.ones(1 << 26) for _ in range(cores)]
    best = 0.0
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(5):
            start = perf_counter()
            list(pool.map(np.sum, parts))
            best = max(best, sum(part.nbytes for part in parts) / (perf_counter() - start) / 1e9)
    return best


def table(records: list[dict[str, Any]]) -> Table:
    """Medians over the rounds."""
    found = Table("task", "engine", "weights", *(name.replace("_", " ") for name in FIGURES))
    keys = dict.fromkeys((r["task"]["name"], r["engine"], r["form"]) for r in records)
    for name, engine, form in keys:
        same = [
            r for r in records
            if (r["task"]["name"], r["engine"], r["form"]) == (name, engine, form)
        ]  # fmt: skip
        cells = []
        for figure in FIGURES:
            values = [r[figure] for r in same if figure in r]
            cells.append(f"{statistics.median(values):.3g}" if values else "")
        found.add_row(name, engine, form, *cells)
    return found


if __name__ == "__main__":
    main()
