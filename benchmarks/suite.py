"""One run of the benchmarks: every server on every workload, one at a time, in alternating rounds.

Each measurement is one Record; the report is made from the records alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from benchmarks import grpc_callers, h2load
from benchmarks.bulk import measure_bulk, measure_sockets
from benchmarks.calls import check_calls, request
from benchmarks.client import Mismatch, check_all_at_once
from benchmarks.frameworks.table import FRAMEWORKS
from benchmarks.grpc_tensor import measure_tensor
from benchmarks.idle import measure_idle
from benchmarks.load import Figures, LoadError, prepared
from benchmarks.models import ensure_models
from benchmarks.offline import (
    FrameworkError,
    framework_items_per_second,
    framework_task,
    items_per_second,
)
from benchmarks.overload import measure_overload
from benchmarks.processes import ServerError, ServerProcess, running
from benchmarks.servers import SERVERS, Server
from benchmarks.slow_streams import measure_slow_streams
from benchmarks.venvs import InstallError, ensure_venv
from benchmarks.wires import V2_BINARY
from benchmarks.worker_memory import WorkersError, measure_workers
from benchmarks.workloads import (
    ENCODER,
    GROUPS,
    GRPC,
    GRPC_MLP,
    GRPC_TENSOR,
    MLP,
    OWN,
    SERVED,
    TENSOR,
    Task,
    Workload,
)

WARM_SECONDS = 2

FAILURES = (ServerError, FrameworkError, WorkersError, Mismatch, LoadError)
"""What ends one measurement, and not the run."""


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
        self._inferd = inferd
        self._models = cache / "models"
        self._written = ensure_models(self._models)
        self._tasks: dict[str, Task] = {}
        self.pythons: dict[str, Path] = {}
        for name in dict.fromkeys(server for _, server in steps(options)):
            try:
                self.pythons[name] = self._python(SERVERS[name], cache)
            except InstallError as error:
                console.print(f"{name} is left out: {error}", markup=False)
        self._steps = [step for step in steps(options) if step[1] in self.pythons]
        self.records: list[Record] = []

    def _python(self, server: Server, cache: Path) -> Path:
        """The Python that runs a server, with its packages."""
        if server.is_inferd:
            return self._inferd
        return ensure_venv(server.folder.name, server.requirements, cache, self._console)

    def run(self, progress: Progress) -> None:
        """Measures everything that the options ask for."""
        options = self._options
        bar = progress.add_task("benchmarks", total=len(self._steps) * options.rounds)
        for number in range(options.rounds):
            for name, server in self._steps:
                progress.update(bar, description=f"round {number + 1}: {server or ''} {name}")
                try:
                    self._measure(name, server, number)
                except FAILURES as error:
                    self._console.print(f"{server} failed on {name}: {error}", markup=False)
                progress.advance(bar)

    def _task(self, workload: Workload) -> Task:
        """The workload with its model, which is made when it is first wanted."""
        if workload.name not in self._tasks:
            self._tasks[workload.name] = (
                framework_task(workload, self._inferd, self._models)
                if workload.model in FRAMEWORKS
                else Task(workload, self._written.get(workload.model_name, self._models))
            )
        return self._tasks[workload.name]

    def _measure(self, name: str, server: str, number: int) -> None:
        if name == "offline-encoder":
            rates = items_per_second(self._task(ENCODER), self._options.seconds)
            self._offline("ONNX Runtime", ENCODER.name, rates, number)
        elif name == "idle":
            self._special(MLP, "idle", number)
        elif name == "overload":
            self._special(ENCODER, "overload", number)
        elif name == TENSOR.name:
            self._special(TENSOR, "tensor", number)
            cost = measure_workers(self._inferd, self._options.seconds)
            self._record("worker", "inferd", TENSOR.name, "no HTTP", 1, number, cost)
        elif name == GRPC_MLP.name:
            self._called(SERVERS[server], self._task(GRPC_MLP), number)
        elif name in GRPC:
            self._alone(self._task(GRPC[name]), number)
        else:
            self._served(SERVERS[server], self._task(SERVED[name]), number)
        if name in OWN:
            task = self._task(SERVED[name])
            rates = framework_items_per_second(task, self._inferd, self._options.seconds)
            self._offline(task.workload.model, name, rates, number)

    def _offline(
        self, server: str, workload: str, rates: Iterable[tuple[int, float]], number: int
    ) -> None:
        for size, rate in rates:
            self._record("offline", server, workload, "", size, number, {"items_per_second": rate})

    def _served(self, server: Server, task: Task, number: int) -> None:
        """All wires and numbers of connections of one server on one workload."""
        workload = task.workload
        with running(server, self.pythons[server.name], task, self._logs) as process:
            start = process.wait_until_right(server, task)
            self._record("start", server.name, workload.name, "", 0, number,
                         {"seconds": start, **asdict(process.memory())})  # fmt: skip
            for wire in server.wires(workload):
                apart = check_all_at_once(process.at(wire), wire, task)
                self._record("answers", server.name, workload.name, wire.name, 0, number,
                             {"apart": apart, "platform": process.platform()})  # fmt: skip
                with prepared(process.at(wire), wire, workload) as load:
                    load.run(32, WARM_SECONDS)
                    for count in workload.connections or self._options.connections:
                        figures = load.run(count, self._options.seconds)
                        self._record("load", server.name, workload.name, wire.name, count, number,
                                     asdict(figures))  # fmt: skip

    def _called(self, server: Server, task: Task, number: int) -> None:
        """One server over gRPC: as much as it can be given, then clients as users have them; its
        answers are right before and after."""
        workload, right = task.workload, server.right(task)
        message, in_flight = (
            request(workload, workload.rows()[0]),
            h2load.CONNECTIONS * h2load.STREAMS,
        )
        with running(server, self.pythons[server.name], task, self._logs) as process:
            port = process.grpc_port
            loads: dict[str, Callable[[float], Figures]] = {
                "h2load": lambda seconds: h2load.load(port, message, seconds),
                "grpc.aio": lambda seconds: grpc_callers.load(port, workload, in_flight, seconds),
            }
            start = process.wait_until_right(server, task)
            self._record("start", server.name, workload.name, "", 0, number,
                         {"seconds": start, **asdict(process.memory())})  # fmt: skip
            loads["h2load"](WARM_SECONDS)
            for wire, load in loads.items():
                apart = check_calls(port, task, right)
                figures = load(self._options.seconds)
                apart = max(apart, check_calls(port, task, right))
                self._record("answers", server.name, workload.name, wire, in_flight, number,
                             {"apart": apart, "platform": ""})  # fmt: skip
                self._record("load", server.name, workload.name, wire, in_flight, number,
                             asdict(figures))  # fmt: skip

    def _alone(self, task: Task, number: int) -> None:
        """What of gRPC is measured of inferd only."""
        workload, server = task.workload, SERVERS["inferd"]
        with running(server, self.pythons["inferd"], task, self._logs) as process:
            process.wait_until_ready()
            if workload is GRPC_TENSOR:
                for wire, cost in measure_tensor(process, workload, self._options.seconds):
                    self._record("tensor", "inferd", workload.name, wire, 1, number, asdict(cost))
                return
            check_calls(process.grpc_port, task, task.expected)
            cost = measure_slow_streams(process, workload)
            self._record("slow-streams", "inferd", workload.name, "gRPC", 0, number, asdict(cost))

    def _special(self, workload: Workload, kind: str, number: int) -> None:
        server, task = SERVERS["inferd"], self._task(workload)
        with running(server, self.pythons["inferd"], task, self._logs) as process:
            if kind == "tensor":
                self._tensor(process, number)
                return
            process.wait_until_right(server, task)
            with prepared(process.endpoint, server.wire, task.workload) as load:
                load.run(8, WARM_SECONDS)
                cost: Any
                if kind == "idle":
                    cost = measure_idle(process, load.message)
                else:
                    cost = measure_overload(load, self._options.seconds)
            self._record(kind, "inferd", workload.name, server.wire.name, 0, number, asdict(cost))

    def _tensor(self, process: ServerProcess, number: int) -> None:
        process.wait_until_ready()
        for count in TENSOR.connections:
            cost = measure_bulk(process.at(V2_BINARY), TENSOR, count, self._options.seconds)
            self._record("tensor", "inferd", TENSOR.name, V2_BINARY.name, count, number,
                         asdict(cost))  # fmt: skip
            bare = measure_sockets(TENSOR, count, self._options.seconds)
            self._record("tensor", "", TENSOR.name, "bare sockets", count, number, asdict(bare))

    def _record(
        self, kind: str, server: str, workload: str, wire: str, connections: int, number: int,
        figures: dict[str, Any],
    ) -> None:  # fmt: skip
        self.records.append(Record(kind, server, workload, wire, connections, number, figures))


def steps(options: Options) -> Iterator[tuple[str, str]]:
    """Workloads with the servers that they are measured of, in order."""
    for name in options.workloads:
        for expanded in GROUPS.get(name, (name,)):
            compared = SERVED.get(expanded) or GRPC.get(expanded)
            wanted = compared.servers if compared else ("inferd",)
            yield from ((expanded, server) for server in wanted if server in options.servers)


def select(records: Sequence[Record], kind: str, workload: str = "") -> list[Record]:
    """Records of one kind, perhaps of one workload."""
    return [r for r in records if r.kind == kind and workload in ("", r.workload)]
