"""A running server: started in a group of its own, watched, and ended with its children."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.calls import check_first
from benchmarks.client import Endpoint, Mismatch, check_answer
from benchmarks.servers import Launch, Server, environment, settings_for
from benchmarks.settings import Settings
from benchmarks.wires import Wire
from benchmarks.workloads import Task

START_TIMEOUT = 120.0
STOP_TIMEOUT = 15.0
MIB = 1024 * 1024


class ServerError(Exception):
    """A server did not start, or answered wrong."""


@dataclass(frozen=True)
class Memory:
    """What a tree of processes holds, in MiB; `pss` counts shared pages once."""

    rss: float
    pss: float


class ServerProcess:
    """One started server and every process it started in turn."""

    def __init__(self, server: Server, launch: Launch, log: Path) -> None:
        self._server, self._workload = server, launch.task.workload
        self.endpoint = Endpoint(launch.port, server.path(self._workload, server.wire))
        self.grpc_port = launch.grpc_port
        self._log = log
        self._started = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                server.command(launch),
                env=environment(server, launch),
                cwd=server.folder if server.folder.is_dir() else log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._root = psutil.Process(self._process.pid)
        self._seen: set[psutil.Process] = {self._root}

    def at(self, wire: Wire) -> Endpoint:
        """Where requests of that form are taken."""
        return Endpoint(self.endpoint.port, self._server.path(self._workload, wire))

    def wait_until_right(self, server: Server, task: Task) -> float:
        """Waits for the first right answer; gives the seconds since the start."""
        if task.workload.grpc:
            return self._wait(lambda: check_first(self.grpc_port, task, server.right(task)))
        wire = server.wires(task.workload)[0]
        return self._wait(lambda: check_answer(self.at(wire), wire, task, sample=0, timeout=10.0))

    def wait_until_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Waits until the model is ready, by its own word; raises ServerError."""
        self._wait(lambda: self._about("/ready"), timeout)

    def _wait(self, ask: Callable[[], object], timeout: float = START_TIMEOUT) -> float:
        """Asks until nothing is wrong; gives the seconds since the start."""
        while True:
            if self._process.poll() is not None:
                raise ServerError(f"ended with code {self._process.returncode}\n{self.log_tail()}")
            try:
                ask()
                return time.perf_counter() - self._started
            except (OSError, http.client.HTTPException, Mismatch) as error:
                if time.perf_counter() - self._started > timeout:
                    raise ServerError(
                        f"no right answer in {timeout:.0f} s: {error!r}\n{self.log_tail()}"
                    ) from error
            time.sleep(0.01)

    def platform(self) -> str:
        """What runs the model, by its metadata; '' where the server does not say."""
        if not self._server.is_inferd:
            return ""
        return str(json.loads(self._about("")).get("platform", ""))

    def _about(self, what: str) -> bytes:
        """What the V2 protocol says of the model; raises Mismatch for a refusal."""
        connection = http.client.HTTPConnection("127.0.0.1", self.endpoint.port, timeout=10)
        with closing(connection):
            connection.request("GET", f"/v2/models/{self._workload.name}{what}")
            response = connection.getresponse()
            body = response.read()
        if response.status != http.client.OK:
            raise Mismatch(f"status {response.status}: {body[:300]!r}")
        return body

    def tree(self) -> list[psutil.Process]:
        """Gives the living processes, those that left their parent included."""
        for process in list(self._seen):
            try:
                self._seen.update(process.children(recursive=True))
            except psutil.NoSuchProcess:
                continue
        return [process for process in self._seen if process.is_running()]

    def memory(self) -> Memory:
        """Adds up the memory of all processes."""
        rss = pss = 0
        for process in self.tree():
            try:
                info = process.memory_full_info()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            rss += info.rss
            pss += info.pss
        return Memory(rss / MIB, pss / MIB)

    def log_tail(self, lines: int = 15) -> str:
        """Gives the end of what the server printed."""
        text = self._log.read_text(errors="replace").splitlines()
        return "\n".join(text[-lines:])

    def stop(self) -> None:
        """Asks the root to end, then kills what is left of the tree."""
        tree = self.tree()
        if self._process.poll() is None:
            self._process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=STOP_TIMEOUT)
        for process in alive:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(alive, timeout=STOP_TIMEOUT)
        self._process.wait()


def free_ports(count: int) -> list[int]:
    """Finds TCP ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


@contextmanager
def running(
    server: Server, python: Path, task: Task, logs: Path, settings: Settings | None = None
) -> Iterator[ServerProcess]:
    """Starts a server and ends it afterwards, whatever happened in between."""
    chosen = settings_for(server, task.workload) if settings is None else settings
    port, *spare = free_ports(3)
    launch = Launch(python, task, port, (spare[0], spare[1]), chosen)
    logs.mkdir(parents=True, exist_ok=True)
    process = ServerProcess(server, launch, logs / f"{server.name}-{task.workload.name}.log")
    try:
        yield process
    finally:
        process.stop()


def raise_file_limit() -> int:
    """Raises this process's (and its children's) open-file limit to the most allowed."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def end_servers_on_sigterm() -> None:
    """Makes SIGTERM leave through every `finally`, as Ctrl-C does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
