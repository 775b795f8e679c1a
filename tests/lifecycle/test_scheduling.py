"""Priorities, queue policies and resources, asked for as Triton's own clients do."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from .onnx_models import STEPS_PER_MS, Repository, work
from .process import ServerProcess
from .traffic import Background, metrics, one, wait_in_flight

HELD = 600.0 * STEPS_PER_MS
SHORT = 20.0 * STEPS_PER_MS
PROTOCOLS = ["http", "grpc"]
LONG_US, SOON_US = 60 * 10**6, 50_000

MODELS: dict[str, dict[str, Any]] = {
    "levels": {
        "priority_levels": 3, "default_priority_level": 2,
        "priority_queue_policy": {
            "1": {"max_queue_size": 2},
            "3": {"default_timeout_microseconds": SOON_US, "max_queue_size": 1},
        },
    },
    "late": {
        "default_queue_policy": {
            "timeout_action": "DELAY", "default_timeout_microseconds": LONG_US,
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("scheduling")
    repository = Repository(root / "repository")
    for name, batching in MODELS.items():
        repository.add(name, work(), config={"max_batch_size": 1, "dynamic_batching": batching})
    for name, count in (("first", 1), ("second", 1), ("greedy", 3)):
        resource = {"name": "R", "count": count}
        group = {"kind": "KIND_CPU", "rate_limiter": {"resources": [resource]}}
        config = {"max_batch_size": 1, "instance_group": [group], "required": count == 1}
        repository.add(name, work(), config=config)
    process = ServerProcess(
        root / "server.log", repository.root, "--rate-limit", "execution_count",
        "--rate-limit-resource", "R:1", grpc_port=None,
    )  # fmt: skip
    try:
        metrics(process.wait_ready())
        yield process
    finally:
        process.stop()


class Asked(threading.Thread):
    """One request of a stock client, which runs beside the test; `answers` gets its name."""

    def __init__(
        self, server: ServerProcess, protocol: str, model: str, name: str = "",
        answers: list[str] | None = None, value: float = SHORT, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(name=name)
        library: Any = triton_http if protocol == "http" else triton_grpc
        self._url = server.address if protocol == "http" else f"127.0.0.1:{server.port + 1}"
        self._library, self._model, self._options = library, model, options
        self._value, self._answers = value, answers if answers is not None else []
        self.error = ""
        self.start()

    def run(self) -> None:
        rows = np.full((1, 1), self._value, np.float32)
        tensor = self._library.InferInput("INPUT0", [1, 1], "FP32")
        tensor.set_data_from_numpy(rows)
        with self._library.InferenceServerClient(self._url) as client:
            try:
                answer = client.infer(self._model, [tensor], **self._options)
            except InferenceServerException as error:
                self.error = str(error.message())
                return
        np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), rows)
        self._answers.append(self.name)

    def result(self) -> str:
        """The error, once it has been answered; nothing where there is none."""
        self.join(60)
        assert not self.is_alive(), "no answer within 60 s"
        return self.error


def hold(server: ServerProcess, protocol: str, model: str) -> Asked:
    """Have the one instance of a model work for a while."""
    held = Asked(server, protocol, model, value=HELD)
    wait_in_flight(server, model, running=1, queued=0)
    return held


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_urgent_overtake_and_none_is_lost(server: ServerProcess, protocol: str) -> None:
    held = hold(server, protocol, "levels")
    answers: list[str] = []
    asked = []
    for name, priority in (("two", 2), ("none", 0), ("beyond", 9), ("one", 1), ("another", 1)):
        asked.append(Asked(server, protocol, "levels", name, answers, priority=priority))
        wait_in_flight(server, "levels", running=1, queued=len(asked))
    depth = 'inferd_priority_queue_depth{model="levels",priority="%d",version="1"}'
    values = metrics(server)
    assert [values[depth % level] for level in (1, 2, 3)] == [2, 3, 0]
    assert [each.result() for each in (held, *asked)] == [""] * 6
    assert answers == ["one", "another", "two", "none", "beyond"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_level_has_a_queue_of_its_own_size(server: ServerProcess, protocol: str) -> None:
    held = hold(server, protocol, "levels")
    asked = [Asked(server, protocol, "levels", priority=1) for _ in range(2)]
    wait_in_flight(server, "levels", running=1, queued=2)
    refused = Asked(server, protocol, "levels", priority=1).result()
    assert "Exceeds maximum queue size" in refused
    asked.append(Asked(server, protocol, "levels", priority=2))
    assert [each.result() for each in (held, *asked)] == [""] * 4


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_level_that_refuses_says_that_its_time_is_over(
    server: ServerProcess, protocol: str
) -> None:
    expired = 'inferd_requests_expired_total{model="levels",version="1"}'
    before = metrics(server)[expired]
    held = hold(server, protocol, "levels")
    assert Asked(server, protocol, "levels", priority=3).result() == "Request timeout expired"
    assert held.is_alive()
    assert held.result() == ""
    assert metrics(server)[expired] == before + 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_put_off_is_answered_behind_the_others(
    server: ServerProcess, protocol: str
) -> None:
    delayed = 'inferd_requests_delayed_total{model="late",version="1"}'
    before = metrics(server)[delayed]
    held = hold(server, protocol, "late")
    answers: list[str] = []
    late = Asked(server, protocol, "late", "late", answers, timeout=SOON_US)
    wait_in_flight(server, "late", running=1, queued=1)
    fresh = Asked(server, protocol, "late", "fresh", answers)
    assert [each.result() for each in (held, late, fresh)] == [""] * 3
    assert answers == ["fresh", "late"]
    assert metrics(server)[delayed] == before + 1


def test_a_configuration_with_levels_is_told_by_both_protocols(server: ServerProcess) -> None:
    told = server.get("/v2/models/levels/config").json()["dynamic_batching"]
    assert (told["priority_levels"], told["default_priority_level"]) == (3, 2)
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.port + 1}") as client:
        batching = client.get_model_config("levels").config.dynamic_batching
        (group,) = client.get_model_config("first").config.instance_group
    assert (batching.priority_levels, batching.default_priority_level) == (3, 2)
    assert batching.priority_queue_policy[1].max_queue_size == 2
    (resource,) = group.rate_limiter.resources
    assert (resource.name, resource.count) == ("R", 1)


def test_models_that_share_a_resource_run_one_after_the_other(server: ServerProcess) -> None:
    held = hold(server, "http", "first")
    waits = Background(server, "second", one())
    wait_in_flight(server, "second", running=0, queued=1)
    assert held.is_alive()
    assert waits.result().status == 200
    assert held.result() == ""
    assert server.infer("second", one()).status == 200


def test_a_model_that_needs_more_than_there_is_says_so(server: ServerProcess) -> None:
    assert server.state("greedy") == "UNAVAILABLE"
    reason = server.index()["greedy", "1"]["reason"]
    assert 'Resource count for "R" is limited to 1' in reason
