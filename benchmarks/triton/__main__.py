"""`python -m benchmarks.triton`: one Triton repository, served by Triton and by inferd in turn."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import h2load
from benchmarks.__main__ import RESULTS, slug
from benchmarks.calls import request
from benchmarks.client import Endpoint
from benchmarks.load import Load, require_wrk
from benchmarks.processes import end_servers_on_sigterm, raise_file_limit
from benchmarks.triton.repository import WIDTH, write_onnx, write_python
from benchmarks.triton.sequences import check_sequences, messages
from benchmarks.triton.servers import PEER, Ports, running
from benchmarks.triton.tensors import measure_binary, measure_shared
from benchmarks.venvs import cache_folder, ensure_venv
from benchmarks.wires import V2, V2_BINARY, Message, Wire
from benchmarks.workloads import Workload
from inferd.observability.machine import describe_machine

CONNECTIONS = 32
WARM_SECONDS = 2
SEQUENCE_TURNS = 3


@dataclass(frozen=True)
class Record:
    """One measurement: the figures of a task, of one server, in one round."""

    task: str
    server: str
    round: int
    figures: dict[str, Any]


@dataclass(frozen=True)
class Bar:
    """What is asked for: the ratio of two figures, ours first."""

    name: str
    ours: tuple[str, str]
    other: tuple[str, str]
    at_least: float
    figure: str = "requests_per_second"


BARS = (
    Bar("identity, JSON", ("identity JSON", "inferd"), ("identity JSON", "triton"), 1.3),
    Bar("identity, binary", ("identity binary", "inferd"), ("identity binary", "triton"), 1.0),
    Bar("identity, gRPC", ("identity gRPC", "inferd"), ("identity gRPC", "triton"), 1.1),
    Bar("one a request, JSON", ("identity_plain JSON", "inferd"),
        ("identity_plain JSON", "triton"), 1.3),
    Bar("one a request, binary", ("identity_plain binary", "inferd"),
        ("identity_plain binary", "triton"), 1.0),
    Bar("one a request, gRPC", ("identity_plain gRPC", "inferd"),
        ("identity_plain gRPC", "triton"), 1.1),
    Bar("ensemble of two MLPs by one", ("mlp_twice JSON", "inferd"), ("mlp JSON", "inferd"), 0.85),
    Bar("shared memory by body", ("16 MiB", "inferd"), ("16 MiB", "inferd"), 5.0),
    Bar("sequences by none, Python", ("accumulate", "inferd"), ("accumulate_alone", "inferd"), 0.8),
    Bar("sequences by none, ONNX", ("sums", "inferd"), ("sums_alone", "inferd"), 0.8),
)  # fmt: skip


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.triton", description=__doc__)
    parser.add_argument("--only", default="triton,inferd", help="servers, by comma")
    parser.add_argument("--tasks", default=",".join(TASKS), help="by comma")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--name", default="triton", help="added to the names of the result files")
    options = parser.parse_args()
    console, cache = Console(), cache_folder()
    raise_file_limit()
    end_servers_on_sigterm()
    generators = f"{require_wrk()}; {h2load.require_h2load()}"
    pythons = {"inferd": Path(sys.executable)}
    if "triton" in options.only.split(","):
        pythons["triton"] = ensure_venv("triton", PEER / "requirements.txt", cache, console)
    both = write_python(cache / "triton" / "python")
    ours = write_onnx(cache / "triton" / "onnx")
    records: list[Record] = []
    for number in range(options.rounds):
        for server in options.only.split(","):
            for repository in (both, ours) if server == "inferd" else (both,):
                with running(server, pythons[server], repository, cache / "logs") as ports:
                    for name in options.tasks.split(","):
                        for task, figures in TASKS[name](ports, repository, options.seconds):
                            console.print(f"round {number + 1}: {server} {task} {figures}")
                            records.append(Record(task, server, number, figures))
    machine = describe_machine()
    header = {
        "processor": f"{machine.cpu_model}, {machine.cores_available} cores, shared with the load",
        "instruction sets": ", ".join(machine.instruction_sets),
        "load": generators,
        "command": f"python -m benchmarks.triton {' '.join(sys.argv[1:])}".rstrip(),
    }
    base = RESULTS / f"{date.today()}-{slug(machine.cpu_model)}-{options.name}"
    raw = {"machine": header, "records": [asdict(record) for record in records]}
    base.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n")
    report = Console(record=True, width=110)
    for name, line in header.items():
        report.print(f"{name}: {line}", markup=False, highlight=False)
    report.print(figures_table(records))
    report.print(bars_table(records))
    base.with_suffix(".txt").write_text(report.export_text())


# -- what is measured ------------------------------------------------------------------------------


def task_identity(ports: Ports, repository: Path, seconds: float) -> Iterator[tuple[str, Any]]:
    """The Python backend's identity model, batched and one a request, in every form."""
    if repository.name != "python":
        return
    for model, rows in (("identity", 64), ("identity_plain", 0)):
        workload = Workload(model, "x", "FP32", width=WIDTH, max_batch=rows, threads=1)
        for name, wire in (("JSON", V2), ("binary", V2_BINARY)):
            yield f"{model} {name}", over_http(ports, workload, wire, seconds)
        row = workload.rows()[0]
        message = request(workload, row if rows else row.reshape(1, WIDTH))
        h2load.load(ports.grpc, message, WARM_SECONDS)
        yield f"{model} gRPC", asdict(h2load.load(ports.grpc, message, seconds))


def task_ensemble(ports: Ports, repository: Path, seconds: float) -> Iterator[tuple[str, Any]]:
    """A model, and an ensemble of two of it."""
    models = ("mlp", "mlp_twice") if repository.name == "onnx" else ("identity", "identity_twice")
    for model in models:
        workload = Workload(model, "x", "FP32", width=WIDTH, max_batch=64, threads=1)
        yield f"{model} JSON", over_http(ports, workload, V2, seconds)


def task_sequences(ports: Ports, repository: Path, seconds: float) -> Iterator[tuple[str, Any]]:
    """A thousand sequences at once, and as many requests without, in turn: two figures that are to
    be compared have the same machine."""
    model = "sums" if repository.name == "onnx" else "accumulate"
    right = check_sequences(ports.grpc, model)
    names = (model, f"{model}_alone")
    with ExitStack() as stack:
        loads = {
            name: stack.enter_context(
                loaded(ports, f"/v2/models/{name}/infer", list(messages(name == model)))
            )
            for name in names
        }
        for load in loads.values():
            load.run(CONNECTIONS, WARM_SECONDS)
        for name in names * SEQUENCE_TURNS:
            yield name, {**asdict(loads[name].run(CONNECTIONS, seconds)), "right": right}


def task_tensor(ports: Ports, repository: Path, seconds: float) -> Iterator[tuple[str, Any]]:
    """16 MiB in and out, in bodies and through shared memory."""
    if repository.name == "python":
        body, shared = measure_binary(ports.http, seconds), measure_shared(ports.http, seconds)
        yield "16 MiB", {"body_ms": body, "shared_ms": shared}


TASKS: dict[str, Callable[[Ports, Path, float], Iterator[tuple[str, Any]]]] = {
    "identity": task_identity,
    "ensemble": task_ensemble,
    "sequences": task_sequences,
    "tensor": task_tensor,
}


def over_http(ports: Ports, workload: Workload, wire: Wire, seconds: float) -> dict[str, Any]:
    """As many requests of one row as there are connections for."""
    rows = workload.rows()
    if not workload.max_batch:
        rows = rows.reshape(len(rows), 1, WIDTH)
    asked = [wire.encode(workload, row) for row in rows]
    with loaded(ports, wire.path.format(name=workload.name), asked) as load:
        load.run(CONNECTIONS, WARM_SECONDS)
        return asdict(load.run(CONNECTIONS, seconds))


@contextmanager
def loaded(ports: Ports, path: str, asked: Sequence[Message]) -> Iterator[Load]:
    """A load of these requests in turn."""
    with TemporaryDirectory(prefix="inferd-bench-") as name:
        folder = Path(name)
        for index, message in enumerate(asked):
            (folder / f"{index}.body").write_bytes(message.body)
        yield Load(Endpoint(ports.http, path), folder, asked[0])


# -- what is said of it ----------------------------------------------------------------------------


def figures_table(records: Sequence[Record]) -> Table:
    """Medians over the rounds."""
    table = Table("task", "server", "requests/s", "p50 ms", "p99 ms", "refused")
    for task, server in dict.fromkeys((r.task, r.server) for r in records):
        if task == "16 MiB":
            for figure in ("body_ms", "shared_ms"):
                middle = of(records, (task, server), figure)
                table.add_row(f"{task}, {figure[:-3]}", server, "", f"{middle:.1f}", "", "")
            continue
        rate, p50, p99, bad = (
            of(records, (task, server), figure)
            for figure in ("requests_per_second", "p50_ms", "p99_ms", "bad_status")
        )
        table.add_row(task, server, f"{rate:,.0f}", f"{p50:.3f}", f"{p99:.3f}", f"{bad:.0f}")
    return table


def bars_table(records: Sequence[Record]) -> Table:
    """What was to be reached."""
    table = Table("bar", "asked", "reached", "")
    known = {(r.task, r.server) for r in records}
    for bar in BARS:
        if not {bar.ours, bar.other} <= known:
            continue
        if bar.ours == bar.other:
            reached = of(records, bar.ours, "body_ms") / of(records, bar.ours, "shared_ms")
        else:
            reached = of(records, bar.ours, bar.figure) / of(records, bar.other, bar.figure)
        met = "" if reached >= bar.at_least else "missed"
        table.add_row(bar.name, f"{bar.at_least:.2f}", f"{reached:.2f}", met)
    return table


def of(records: Sequence[Record], which: tuple[str, str], figure: str) -> float:
    """The median of a figure."""
    return float(median(r.figures[figure] for r in records if (r.task, r.server) == which))


if __name__ == "__main__":
    main()
