"""`python -m benchmarks.llm`: engines beside each other on one model, in alternating rounds."""

import argparse
import json
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.llm.model import ensure_model
from benchmarks.llm.peers import PEERS
from benchmarks.llm.ratios import Record, median, rows
from benchmarks.llm.tasks import TASKS
from benchmarks.venvs import cache_folder
from inferd.observability.machine import describe_machine

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = (
    "output_tokens_per_second", "decode_tokens_per_second", "first_token_s", "first_token_again_s",
    "gap_p99_ms", "start_s",
)  # fmt: skip


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm", description=__doc__)
    parser.add_argument("--only", default=",".join(PEERS), help="engines, by comma")
    parser.add_argument("--forms", default="", help="forms of weights, by comma; default all")
    parser.add_argument("--tasks", default=",".join(TASKS), help="by comma")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--name", default="llm", help="what the files of results are called")
    options = parser.parse_args()
    console = Console()
    cache = cache_folder()
    model = ensure_model(cache / "llm" / "llama-1b")
    jobs = []
    for name in options.only.split(","):
        peer = PEERS[name]
        chosen = set(options.forms.split(",")) if options.forms else set(peer.forms)
        python = peer.install(cache, console)
        jobs += [
            (name, form, python, peer.convert(cache, model, form, console))
            for form in peer.forms
            if form in chosen
        ]
    records: list[Record] = []
    bandwidth = []
    for number in range(options.rounds):
        for engine, form, python, place in jobs:
            bandwidth.append(read_bandwidth())
            console.print(
                f"round {number + 1}: {engine} {form} ({bandwidth[-1]:.1f} GB/s)", markup=False
            )
            tasks = options.tasks.split(",")
            job = {"model": str(place), "form": form, "tasks": tasks, "round": number}
            told = {"engine": engine, "form": form, "round": number, "gb_per_s": bandwidth[-1]}
            records += [told | record for record in run(engine, python, job, console)]
    machine = describe_machine()
    header = {
        "processor": machine.cpu_model,
        "instruction_sets": machine.instruction_sets,
        "cores": machine.cores_available,
        "read_gb_per_s": bandwidth,
    }
    kept = RESULTS / f"{date.today()}-{options.name}.json"
    kept.write_text(json.dumps({"machine": header, "records": records}, indent=1) + "\n")
    report = Console(record=True, width=120)
    report.print(header)
    report.print(figures_table(records))
    report.print(ratio_table(records))
    kept.with_suffix(".txt").write_text(report.export_text())
    console.print(f"written: {kept}", markup=False)


def run(engine: str, python: Path, job: dict[str, Any], console: Console) -> list[Record]:
    """One engine in a process of its own, started where `benchmarks` can be imported."""
    ended = subprocess.run(
        [str(python), "-m", f"benchmarks.llm.engines.{engine}"], input=json.dumps(job),
        capture_output=True, text=True, check=False, cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if ended.returncode:
        console.print(f"{engine} failed:\n{ended.stderr[-3000:]}", markup=False)
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"')]


def read_bandwidth() -> float:
    """Bytes a second in 1e9 that all cores together read from memory."""
    cores = describe_machine().cores_available
    parts = [np.ones(1 << 26) for _ in range(cores)]
    best = 0.0
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(5):
            start = perf_counter()
            list(pool.map(np.sum, parts))
            best = max(best, sum(part.nbytes for part in parts) / (perf_counter() - start) / 1e9)
    return best


def figures_table(records: Sequence[Record]) -> Table:
    """Medians over the rounds."""
    found = Table("task", "engine", "weights", *(name.replace("_", " ") for name in FIGURES))
    keys = dict.fromkeys((r["task"]["name"], r["engine"], r["form"]) for r in records)
    for key in sorted(keys, key=lambda key: list(TASKS).index(key[0])):
        values = [median(records, *key, figure) for figure in FIGURES]
        found.add_row(*key, *("" if value is None else f"{value:.3g}" for value in values))
    return found


def ratio_table(records: Sequence[Record]) -> Table:
    """inferd over the peers, beside what is aimed at."""
    found = Table("task", "figure", "of", "beside", "ours", "theirs", "ratio", "aim", "")
    for row in rows(records):
        ratio = row.ratio
        found.add_row(
            ratio.task, ratio.figure.replace("_", " "),
            f"{ratio.by} {ratio.ours}", f"{ratio.engine} {row.form}",
            f"{row.ours:.3g}", f"{row.theirs:.3g}", f"{row.value:.2f}",
            f"{'<=' if ratio.less else '>='} {ratio.wanted:.2f}", "" if row.reached else "missed",
        )  # fmt: skip
    return found


if __name__ == "__main__":
    main()
