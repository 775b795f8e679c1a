"""Tries a peer's candidate settings: `python -m benchmarks.tune PEER [--workload mlp]`."""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import h2load
from benchmarks.calls import check_calls, request
from benchmarks.client import Mismatch, check_all_at_once
from benchmarks.frameworks.table import FRAMEWORKS
from benchmarks.load import Figures, prepared
from benchmarks.models import ensure_models
from benchmarks.offline import framework_task
from benchmarks.processes import ServerError, ServerProcess, end_servers_on_sigterm, running
from benchmarks.servers import SERVERS, Server, settings_for
from benchmarks.settings import CANDIDATES, Settings
from benchmarks.venvs import cache_folder, ensure_venv
from benchmarks.workloads import GRPC, SERVED, Task

CONNECTIONS = (1, 32, 256)
WARM_SECONDS = 1


def combinations(grid: dict[str, list[Any]]) -> list[Settings]:
    """Gives every combination of the candidates' values."""
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def main() -> None:
    """Measures each combination once and prints it at once."""
    options = parse()
    end_servers_on_sigterm()
    console = Console()
    server, workload = SERVERS[options.peer], {**SERVED, **GRPC}[options.workload]
    cache = cache_folder()
    python = ensure_venv(server.folder.name, server.requirements, cache, console)
    models = cache / "models"
    if workload.model in FRAMEWORKS:
        task = framework_task(workload, Path(sys.executable), models)
    else:
        task = Task(workload, ensure_models(models)[workload.model_name])
    for changed in combinations(CANDIDATES[options.peer][options.workload]):
        console.print(", ".join(f"{key}={value}" for key, value in changed.items()))
        try:
            with running(
                server, python, task, cache / "logs", settings_for(server, workload) | changed
            ) as process:
                measure(process, server, task, options.seconds, console)
        except (ServerError, Mismatch) as error:
            console.print(f"  failed: {error}", markup=False)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; a peer's first workload unless another of its own is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description=__doc__)
    parser.add_argument("peer", choices=sorted(CANDIDATES))
    parser.add_argument("--workload", help="default: the peer's first in settings.py")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args(arguments)
    workloads = list(CANDIDATES[options.peer])
    options.workload = options.workload or workloads[0]
    if options.workload not in workloads:
        parser.error(f"{options.peer} has candidates for {', '.join(workloads)}")
    return options


def measure(
    process: ServerProcess, server: Server, task: Task, seconds: float, console: Console
) -> None:
    """Measures one running server and prints a line for each number of connections."""
    process.wait_until_right(server, task)
    if task.workload.grpc:
        message = request(task.workload, task.workload.rows()[0])
        h2load.load(process.grpc_port, message, WARM_SECONDS)
        check_calls(process.grpc_port, task, server.right(task))
        console.print(f"  h2load: {line(h2load.load(process.grpc_port, message, seconds))}")
        return
    check_all_at_once(process.endpoint, server.wire, task)
    with prepared(process.endpoint, server.wire, task.workload) as load:
        load.run(32, WARM_SECONDS)
        for count in CONNECTIONS:
            console.print(f"  {count:4} connections: {line(load.run(count, seconds))}")


def line(figures: Figures) -> str:
    """Writes one measurement in short."""
    errors = figures.bad_status + figures.socket_errors
    failed = f", {errors} errors" if errors else ""
    rate = f"{figures.requests_per_second:,.0f}/s"
    return f"{rate} (p50 {figures.p50_ms:.2f}, p99 {figures.p99_ms:.2f} ms{failed})"


if __name__ == "__main__":
    main()
