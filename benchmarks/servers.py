"""The servers compared: how each is started, where it answers and in which form."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.calls import answer_head
from benchmarks.settings import CHOSEN, Settings
from benchmarks.wires import CALL, DATA, DATA_ROWS, V2, V2_BINARY, Wire
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

    @property
    def grpc_port(self) -> int:
        """Where gRPC is spoken, by servers that do."""
        return self.spare_ports[0]


@dataclass(frozen=True)
class Server:
    """One server; `distribution` is its package, whose version is reported. `route` is where it
    answers unless the wire says so, `home` the name of its folder where it shares one. One that
    `echoes` runs no model and answers with what it is sent."""

    name: str
    distribution: str
    command: Callable[[Launch], list[str]]
    wire: Wire
    route: str = "/"
    environment: Callable[[Launch], dict[str, str]] = field(default=lambda _: {})
    home: str = ""
    echoes: bool = False

    @property
    def is_inferd(self) -> bool:
        """Whether it is inferd, as it is or told otherwise."""
        return self.distribution == "inferd"

    @property
    def folder(self) -> Path:
        """Where a server's own files lie; its processes run there."""
        return PEERS / ("inferd" if self.is_inferd else self.home or self.name)

    @property
    def requirements(self) -> Path:
        """A peer's pinned packages."""
        return self.folder / "requirements.txt"

    def wires(self, workload: Workload) -> tuple[Wire, ...]:
        """Gives the forms of request to measure."""
        if not self.is_inferd:
            return (self.wire,)
        if workload.name == "wide":
            return (V2, V2_BINARY)
        if workload.name == "python-mlp":
            return (V2, CALL)
        return (V2_BINARY,) if workload.request_rows or not workload.max_batch else (V2,)

    def right(self, task: Task) -> NDArray[np.generic]:
        """The right answers, a row for each request."""
        return task.workload.rows() if self.echoes else task.expected

    def path(self, workload: Workload, wire: Wire) -> str:
        """Where it takes requests of that form for the workload's model."""
        return wire.path.format(name=workload.name) or self.route


def script(name: str) -> Callable[[Launch], list[str]]:
    """Starts a Python file of the peer's folder."""
    return lambda launch: [str(launch.python), name]


def console(launch: Launch, program: str) -> str:
    """Gives a console program of the peer's environment."""
    return str(launch.python.with_name(program))


def inferd_command(config: Mapping[str, Any]) -> Callable[[Launch], list[str]]:
    """Serves the model with inferd's defaults, or with what is to be said of it."""

    def command(launch: Launch) -> list[str]:
        serve = [str(launch.python), "-m", "inferd", "serve", "--http-port", str(launch.port)]
        workload = launch.task.workload
        if workload.grpc:
            serve += ["--grpc-port", str(launch.grpc_port)]
        if workload.trust:
            serve.append("--trust")
        told = {**workload.config, **config}
        if told:
            return [*serve, str(model_folder(launch.task, told))]
        serve.append(f"{workload.name}={workload.source or launch.task.model}")
        return [*serve, workload.beside] if workload.beside else serve

    return command


def model_folder(task: Task, config: Mapping[str, Any]) -> Path:
    """The model in a folder of a model repository, with its configuration."""
    told = json.dumps(config, sort_keys=True)
    place = hashlib.sha256(told.encode()).hexdigest()[:8]
    folder = task.model.parent / "told" / place / task.workload.name
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(told)
    if task.model.is_dir():
        shutil.copytree(task.model, folder / "1" / "model.savedmodel", dirs_exist_ok=True)
        return folder
    for file in task.model.parent.glob(f"{task.model.stem}.*"):  # weights may lie beside it
        shutil.copyfile(file, folder / "1" / f"model{file.suffix}")
    return folder


def inferd_server(name: str, config: Mapping[str, Any]) -> Server:
    """inferd, told something."""
    return Server(name, "inferd", inferd_command(config), V2)


def mosec_command(launch: Launch) -> list[str]:
    """mosec reads its own flags from the command line.

    `--wait` is its only way to ask for no wait at all: the workers' own setting starts at 1 ms.
    """
    address = ["--address", "127.0.0.1", "--port", str(launch.port)]
    limits = ["--timeout", "60000", "--wait", str(launch.settings["max_wait_ms"])]
    return [str(launch.python), "server.py", "--log-level", "warning", *address, *limits]


def mlserver_command(launch: Launch) -> list[str]:
    """Serves the model of its own folder."""
    return [console(launch, "mlserver"), "start", "."]


def mlserver_environment(launch: Launch) -> dict[str, str]:
    """MLServer takes what its settings files leave open from the environment."""
    _, metrics_port = launch.spare_ports
    return {
        "MLSERVER_HTTP_PORT": str(launch.port),
        "MLSERVER_GRPC_PORT": str(launch.grpc_port),
        "MLSERVER_METRICS_PORT": str(metrics_port),
        "MLSERVER_PARALLEL_WORKERS": str(launch.settings["workers"]),
        "MLSERVER_MODEL_NAME": launch.task.workload.name,
        "MLSERVER_MODEL_URI": str(launch.task.model),
        "MLSERVER_MODEL_MAX_BATCH_SIZE": str(launch.settings["max_batch_size"]),
        "MLSERVER_MODEL_MAX_BATCH_TIME": str(launch.settings["max_batch_time"]),
    }


def triton_command(launch: Launch) -> list[str]:
    """Serves an identity model by the workload's name."""
    return [str(launch.python), "serve.py", launch.task.workload.name]


def bentoml_command(launch: Launch) -> list[str]:
    """Serves the class of service.py."""
    target = ["serve", "service:Inference", "--host", "127.0.0.1", "--port", str(launch.port)]
    return [console(launch, "bentoml"), *target]


SERVERS = {
    server.name: server
    for server in (
        inferd_server("inferd", {}),
        inferd_server("inferd-onnxruntime", {"backend": "onnxruntime"}),
        inferd_server("inferd-openvino", {"backend": "openvino"}),
        inferd_server("inferd-f32", {"parameters": {"precision": "f32"}}),
        Server("mosec", "mosec", mosec_command, DATA, "/inference"),
        *(
            Server(name, "mlserver", mlserver_command, V2, environment=mlserver_environment)
            for name in ("mlserver", "mlserver-xgboost")
        ),
        Server("triton", "nvidia-pytriton", triton_command, V2, echoes=True),
        *(
            Server(
                name,
                "grpcio",
                script(file),
                V2,
                environment=lambda launch: {
                    "BENCH_ANSWER_HEAD": answer_head(launch.task.workload).hex()
                },
                home="grpcio",
                echoes=True,
            )
            for name, file in (("grpcio-threads", "threads.py"), ("grpcio-aio", "aio.py"))
        ),
        Server("litserve", "litserve", script("api.py"), DATA, "/predict"),
        Server(
            "bentoml",
            "bentoml",
            bentoml_command,
            DATA_ROWS,
            "/predict",
            lambda _: {"BENTOML_DO_NOT_TRACK": "true"},
        ),
        Server(
            "ray",
            "ray",
            script("deployment.py"),
            DATA,
            "/",
            lambda launch: {"RAY_USAGE_STATS_ENABLED": "0", **launch.settings.get("env", {})},
        ),
    )
}


def settings_for(server: Server, workload: Workload) -> Settings:
    """Gives the settings chosen for a peer; inferd has none but for what is its model's code."""
    chosen = CHOSEN.get("inferd" if server.is_inferd else server.name, {})
    return chosen.get(workload.name) or chosen.get(workload.model_name, {})


def environment(server: Server, launch: Launch) -> dict[str, str]:
    """Gives the whole environment of a server's process."""
    shared = str(PEERS / "common")
    if server.is_inferd and os.environ.get("PYTHONPATH"):
        shared = os.pathsep.join((shared, *absolute(os.environ["PYTHONPATH"])))
    common = {
        "PATH": f"{launch.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": shared,
        "BENCH_MODEL": str(launch.task.model),
        "BENCH_THREADS": str(launch.task.workload.threads),
        "BENCH_PORT": str(launch.port),
        "BENCH_GRPC_PORT": str(launch.grpc_port),
        "BENCH_SETTINGS": json.dumps(launch.settings),
    }
    return {**os.environ, **common, **server.environment(launch)}


def absolute(paths: str) -> list[str]:
    """The folders of a path list, wherever they are looked at from."""
    return [str(Path(path).resolve()) for path in paths.split(os.pathsep) if path]
