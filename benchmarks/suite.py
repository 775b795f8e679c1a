"""One run of the benchmarks: every server on every workload, one at a time, in alternating rounds.

Each measurement is one Record; the report is made from the records alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks.client import check_all_at_once
from benchmarks.idle import measure_idle
from benchmarks.load import prepared
from benchmarks.models import ensure_models
from benchmarks.offline import items_per_second
from benchmarks.overload import measure_overload
from benchmarks.processes import ServerError, running
from benchmarks.servers import SERVERS, Server
from benchmarks.venvs import ensure_venv
from benchmarks.workloads import ENCODER, MLP, SERVED, Task

WARM_SECONDS = 2


@dataclass(frozen=True)
class Record:
    """One measurement: what, of whom, in which round, and the figures by name."""

    kind: str
    server: str
    workload: str
    wire: str
    connections: int
    round: int
    figures: dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What to measure and for how long."""

    servers: tuple[str, ...]
    workloads: tuple[str, ...]
    connections: tuple[int, ...]
    rounds: int
    seconds: float


class Suite:
    """Runs the benchmarks."""

    def __init__(self, options: Options, cache: Path, inferd: Path, console: Console) -> None:
        self._options = options
        self._logs = cache / "logs"
        self._console = console
        models = ensure_models(cache / "models")
        self._tasks = {w.name: Task(w, models[w.name]) for w in SERVED.values()}
        self.pythons = {
            name: ensure_venv(name, SERVERS[name].requirements, cache, console)
            if name != "inferd"
            else inferd
            for name in options.servers
        }
        self.records: list[Record] = []

    def run(self, progress: Progress) -> None:
        """Measures everything that the options ask for."""
        options = self._options
        steps = list(self._steps())
        bar = progress.add_task("benchmarks", total=len(steps) * options.rounds)
        for number in range(options.rounds):
            for name, server in steps:
                progress.update(bar, description=f"round {number + 1}: {server or ''} {name}")
                try:
                    self._measure(name, server, number)
                except ServerError as error:
                    self._console.print(f"{server} failed on {name}: {error}", markup=False)
                progress.advance(bar)

    def _steps(self) -> Iterator[tuple[str, str]]:
        for name in self._options.workloads:
            if name in SERVED:
                only = ("inferd",) if SERVED[name].only_inferd else self._options.servers
                yield from ((name, server) for server in only if server in self._options.servers)
            elif "inferd" in self._options.servers:
                yield name, "inferd"

    def _measure(self, name: str, server: str, number: int) -> None:
        if name == "offline":
            for size, rate in items_per_second(self._tasks["encoder"], self._options.seconds):
                self._record("offline", "ONNX Runtime", ENCODER.name, "", size, number,
                             {"items_per_second": rate})  # fmt: skip
        elif name == "idle":
            self._special(MLP.name, "idle", number)
        elif name == "overload":
            self._special(ENCODER.name, "overload", number)
        else:
            self._served(SERVERS[server], self._tasks[name], number)

    def _served(self, server: Server, task: Task, number: int) -> None:
        """All wires and numbers of connections of one server on one workload."""
        workload = task.workload
        with running(server, self.pythons[server.name], task, self._logs) as process:
            start = process.wait_until_right(server, task)
            self._record("start", server.name, workload.name, "", 0, number,
                         {"seconds": start, **asdict(process.memory())})  # fmt: skip
            check_all_at_once(process.endpoint, server.wire, task)
            for wire in server.wires(workload):
                with prepared(process.endpoint, wire, workload) as load:
                    load.run(32, WARM_SECONDS)
                    for count in self._options.connections:
                        figures = load.run(count, self._options.seconds)
                        self._record("load", server.name, workload.name, wire.name, count, number,
                                     asdict(figures))  # fmt: skip

    def _special(self, workload: str, kind: str, number: int) -> None:
        server, task = SERVERS["inferd"], self._tasks[workload]
        with running(server, self.pythons["inferd"], task, self._logs) as process:
            process.wait_until_right(server, task)
            with prepared(process.endpoint, server.wire, task.workload) as load:
                load.run(8, WARM_SECONDS)
                cost: Any
                if kind == "idle":
                    cost = measure_idle(process, load.message)
                else:
                    cost = measure_overload(load, self._options.seconds)
            self._record(kind, "inferd", workload, server.wire.name, 0, number, asdict(cost))

    def _record(
        self, kind: str, server: str, workload: str, wire: str, connections: int, number: int,
        figures: dict[str, Any],
    ) -> None:  # fmt: skip
        self.records.append(Record(kind, server, workload, wire, connections, number, figures))


def select(records: Sequence[Record], kind: str, workload: str = "") -> list[Record]:
    """Records of one kind, perhaps of one workload."""
    return [r for r in records if r.kind == kind and workload in ("", r.workload)]
