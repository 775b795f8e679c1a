"""Triton's own load generator against a server of ours, where it is installed.

It comes with tritonclient 2.41.0 (`pip install tritonclient==2.41.0 nvidia-cuda-runtime-cu12`, and
Debian's libb64-0d); `PERF_ANALYZER` names it where it is not on the path.
"""

import csv
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import RunningServer
from inferd.conformance.repository import write_repository

pytestmark = pytest.mark.slow

WINDOW_MS = 500
TRIALS = 3
RUN_S = 120


def tool() -> tuple[str, dict[str, str]] | None:
    """perf_analyzer and the environment in which it starts, if it does."""
    path = os.environ.get("PERF_ANALYZER") or shutil.which("perf_analyzer")
    if path is None:
        return None
    cuda = Path(sysconfig.get_path("purelib")) / "nvidia" / "cuda_runtime" / "lib"
    libraries = f"{cuda}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    version = subprocess.run(
        [path, "--version"], env=environment, capture_output=True, text=True, check=False
    )
    return (path, environment) if "Perf Analyzer" in version.stdout + version.stderr else None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("perf_analyzer")
    write_repository(root / "models")
    running = RunningServer(root / "server.log", root / "models", "--shared-memory", "system")
    yield running
    running.stop()


SHARED = ["--shared-memory", "system", "--output-shared-memory-size", "4096"]

RUNS = {
    "http": ["-i", "http", "-m", "add_sub"],
    "http, many rows": ["-i", "http", "-m", "add_sub", "-b", "4"],
    "http, asynchronous": ["-i", "http", "-m", "add_sub", "--async"],
    "http, at a rate": ["-i", "http", "-m", "add_sub", "--request-rate-range", "100"],
    "http, shared memory": ["-i", "http", "-m", "add_sub", *SHARED],
    "http, an ensemble": ["-i", "http", "-m", "chain"],
    "http, sequences": ["-i", "http", "-m", "accumulator"],
    "grpc": ["-i", "grpc", "-m", "add_sub"],
    "grpc, asynchronous": ["-i", "grpc", "-m", "add_sub", "--async"],
    "grpc, a stream": ["-i", "grpc", "-m", "add_sub", "--async", "--streaming"],
    "grpc, many answers to each": [
        "-i",
        "grpc",
        "-m",
        "repeat",
        "--async",
        "--streaming",
        "--shape",
        "INPUT0:4",
    ],
    "http, texts": ["-i", "http", "-m", "strings", "--shape", "INPUT0:3"],
    "grpc, shared memory": ["-i", "grpc", "-m", "add_sub", *SHARED],
    "grpc, sequences": ["-i", "grpc", "-m", "accumulator"],
    "grpc, sequences in a stream": ["-i", "grpc", "-m", "accumulator", "--async", "--streaming"],
}


@pytest.mark.parametrize("name", RUNS)
def test_it_measures_without_an_error(name: str, server: RunningServer, tmp_path: Path) -> None:
    found = tool()
    if found is None:
        pytest.skip("perf_analyzer is not installed: see this file's head")
    path, environment = found
    run = RUNS[name]
    table = tmp_path / "figures.csv"
    where = server.grpc if "grpc" in run else f"127.0.0.1:{server.port}"
    load = [] if "--request-rate-range" in run else ["--concurrency-range", "4"]
    patience = ["--input-data", "zero", "-p", str(WINDOW_MS), "-r", str(TRIALS), "-s", "1000"]
    done = subprocess.run(
        [path, *run, "-u", where, *load, *patience, "-f", str(table)],
        env=environment, capture_output=True, text=True, timeout=RUN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert float(row["Inferences/Second"]) > 0
    assert server.metric("nv_inference_request_failure", model=run[3]) == 0
