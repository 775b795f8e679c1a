"""The servers compared: how each is started, where it answers and in which form."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.settings import CHOSEN, Settings
from benchmarks.wires import DATA, DATA_ROWS, V2, V2_BINARY, Wire
from benchmarks.workloads import Task, Workload

PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Launch:
    """All that a start command depends on."""

    python: Path
    task: Task
    port: int
    spare_ports: tuple[int, int]
    settings: Settings


@dataclass(frozen=True)
class Server:
    """One server; `distribution` is its package, whose version is reported."""

    name: str
    distribution: str
    command: Callable[[Launch], list[str]]
    path: Callable[[Workload], str]
    wire: Wire
    environment: Callable[[Launch], dict[str, str]] = field(default=lambda _: {})

    @property
    def folder(self) -> Path:
        """Where a peer's own files lie; its processes run there."""
        return PEERS / self.name

    @property
    def requirements(self) -> Path:
        """A peer's pinned packages."""
        return self.folder / "requirements.txt"

    def wires(self, workload: Workload) -> tuple[Wire, ...]:
        """Gives the forms of request to measure."""
        if self.name == "inferd" and workload.name == "wide":
            return (V2, V2_BINARY)
        return (self.wire,)


def script(name: str) -> Callable[[Launch], list[str]]:
    """Starts a Python file of the peer's folder."""
    return lambda launch: [str(launch.python), name]


def console(launch: Launch, program: str) -> str:
    """Gives a console program of the peer's environment."""
    return str(launch.python.with_name(program))


def v2_path(workload: Workload) -> str:
    """The Open Inference Protocol's route to a model."""
    return f"/v2/models/{workload.name}/infer"


def inferd_command(launch: Launch) -> list[str]:
    """Serves the model file with inferd's defaults."""
    model, port = str(launch.task.model), str(launch.port)
    return [str(launch.python), "-m", "inferd", "serve", model, "--http-port", port]


def mosec_command(launch: Launch) -> list[str]:
    """mosec reads its own flags from the command line.

    `--wait` is its only way to ask for no wait at all: the workers' own setting starts at 1 ms.
    """
    address = ["--address", "127.0.0.1", "--port", str(launch.port)]
    limits = ["--timeout", "60000", "--wait", str(launch.settings["max_wait_ms"])]
    return [str(launch.python), "server.py", "--log-level", "warning", *address, *limits]


def mlserver_environment(launch: Launch) -> dict[str, str]:
    """MLServer takes what its settings files leave open from the environment."""
    grpc_port, metrics_port = launch.spare_ports
    return {
        "MLSERVER_HTTP_PORT": str(launch.port),
        "MLSERVER_GRPC_PORT": str(grpc_port),
        "MLSERVER_METRICS_PORT": str(metrics_port),
        "MLSERVER_PARALLEL_WORKERS": str(launch.settings["workers"]),
        "MLSERVER_MODEL_NAME": launch.task.workload.name,
        "MLSERVER_MODEL_MAX_BATCH_SIZE": str(launch.settings["max_batch_size"]),
        "MLSERVER_MODEL_MAX_BATCH_TIME": str(launch.settings["max_batch_time"]),
    }


def bentoml_command(launch: Launch) -> list[str]:
    """Serves the class of service.py."""
    target = ["serve", "service:Inference", "--host", "127.0.0.1", "--port", str(launch.port)]
    return [console(launch, "bentoml"), *target]


SERVERS = {
    server.name: server
    for server in (
        Server("inferd", "inferd", inferd_command, v2_path, V2),
        Server("mosec", "mosec", mosec_command, lambda _: "/inference", DATA),
        Server(
            "mlserver",
            "mlserver",
            lambda launch: [console(launch, "mlserver"), "start", "."],
            v2_path,
            V2,
            mlserver_environment,
        ),
        Server("litserve", "litserve", script("api.py"), lambda _: "/predict", DATA),
        Server(
            "bentoml",
            "bentoml",
            bentoml_command,
            lambda _: "/predict",
            DATA_ROWS,
            lambda _: {"BENTOML_DO_NOT_TRACK": "true"},
        ),
        Server(
            "ray",
            "ray",
            script("deployment.py"),
            lambda _: "/",
            DATA,
            lambda launch: {"RAY_USAGE_STATS_ENABLED": "0", **launch.settings.get("env", {})},
        ),
    )
}


def settings_for(server: Server, workload: Workload) -> Settings:
    """Gives the settings chosen for a peer; inferd has none."""
    return CHOSEN.get(server.name, {}).get(workload.name, {})


def environment(server: Server, launch: Launch) -> dict[str, str]:
    """Gives the whole environment of a server's process."""
    if server.name == "inferd":
        return dict(os.environ)
    common = {
        "PATH": f"{launch.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(PEERS / "common"),
        "BENCH_MODEL": str(launch.task.model),
        "BENCH_THREADS": str(launch.task.workload.threads),
        "BENCH_PORT": str(launch.port),
        "BENCH_SETTINGS": json.dumps(launch.settings),
    }
    return {**os.environ, **common, **server.environment(launch)}
