"""Twice what the server can do: what is over is refused at once, what it can do it still does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Start
from .onnx_models import STEPS_PER_MS, Repository, work
from .process import ServerProcess

CLIENT = Path(__file__).with_name("overload_client.py")
QUEUE = 32
SECONDS = 6


def client(server: ServerProcess, connections: int, rate: float = 0.0) -> dict[str, float]:
    arguments = [server.port, "m", connections, SECONDS, *([rate] if rate else [])]
    ended = subprocess.run(
        [sys.executable, CLIENT, *map(str, arguments)],
        capture_output=True, check=True, text=True, timeout=120,
    )  # fmt: skip
    found = json.loads(ended.stdout)
    print(f"connections {connections}, rate {rate:.0f}: {found}")
    return dict(found)


@pytest.mark.slow
def test_at_twice_the_peak_the_rest_is_refused_at_once_and_goodput_holds(
    repository: Repository, start: Start
) -> None:
    policy = {"max_queue_size": QUEUE}
    config = {"max_batch_size": 4, "dynamic_batching": {"default_queue_policy": policy}}
    repository.add("m", work(7 * STEPS_PER_MS), config=config)
    server = start()
    before = client(server, QUEUE)
    over = client(server, 400, 2 * before["goodput"])
    after = client(server, QUEUE)
    for peak in (before, after):
        assert peak["refused"] == peak["other"] == peak["broken"] == 0
    assert over["other"] == over["broken"] == over["unsent"] == 0
    assert over["refused"] > 0.3 * over["good"]
    assert over["refused_without_retry_after"] == 0
    assert over["refused_p50_ms"] < 50
    assert over["goodput"] >= 0.9 * max(before["goodput"], after["goodput"])
    assert server.ready()
