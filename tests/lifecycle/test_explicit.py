"""Explicit mode: load, unload, reload, and the memory that unloading gives back."""

import pytest

from .conftest import Start
from .onnx_models import STEPS_PER_MS, Repository, constant, weights, work
from .process import ServerProcess, json_input, wait_until
from .traffic import Background, one, traffic, wait_in_flight

EXPLICIT = ("--model-control-mode", "explicit")


def value_of(server: ServerProcess) -> float:
    return float(server.infer("m", one()).json()["outputs"][0]["data"][0])


def test_nothing_is_loaded_until_it_is_asked_for(repository: Repository, start: Start) -> None:
    repository.add("m", constant(1))
    server = start(*EXPLICIT)
    assert server.request("POST", "/v2/repository/index").json() == [{"name": "m"}]
    assert server.infer("m", one()).status in (404, 503)
    assert server.load("m").status == 200
    assert server.state("m") == "READY"
    assert value_of(server) == 1


def test_load_model_chooses_what_is_loaded_at_start(repository: Repository, start: Start) -> None:
    for name in ("a", "b", "c"):
        repository.add(name, constant(1))
    server = start(*EXPLICIT, "--load-model", "a", "--load-model", "c")
    assert [server.state(name) for name in ("a", "b", "c")] == ["READY", "", "READY"]


def test_a_start_model_that_does_not_exist_keeps_the_server_unready(
    repository: Repository, start: Start
) -> None:
    repository.add("m", constant(1))
    server = start(*EXPLICIT, "--load-model", "m", "--load-model", "missing", wait=False)
    server.wait_listening()
    wait_until(lambda: server.state("m") == "READY", "m is ready")
    wait_until(lambda: "inferd 0" in server.log_text(), "the start is over")
    assert server.status("/v2/health/ready") == 400
    assert any("missing" in line["name"] for line in server.index().values())


def test_load_unload_and_load_again(repository: Repository, start: Start) -> None:
    repository.add("m", constant(1))
    server = start(*EXPLICIT, "--load-model", "m")
    for _ in range(3):
        assert server.unload("m").status == 200
        assert server.infer("m", one()).status in (404, 503)
        assert server.status("/v2/models/m/ready") == 400
        assert server.ready()
        assert server.load("m").status == 200
        assert value_of(server) == 1


def test_of_a_model_that_is_not_there_nothing_is_unloaded(
    repository: Repository, start: Start
) -> None:
    repository.add("m", constant(1))
    server = start(*EXPLICIT)
    assert server.unload("nope").status == 200  # as in Triton
    assert server.unload("m").status == 200
    assert "nope" not in str(server.index())


def test_loading_again_takes_what_has_changed_without_a_failed_request(
    repository: Repository, start: Start
) -> None:
    repository.add("m", constant(1))
    server = start(*EXPLICIT, "--load-model", "m")
    with traffic(server, "m") as seen:
        repository.add("m", constant(2), 2)
        assert server.load("m").status == 200
        seen.wait_for_more(50)
    assert seen.errors == []
    assert {version for _, version, _ in seen.answers} == {"1", "2"}
    assert value_of(server) == 2


def test_a_load_that_fails_says_why_and_leaves_what_serves(
    repository: Repository, start: Start
) -> None:
    repository.add("m", constant(1))
    server = start(*EXPLICIT, "--load-model", "m")
    repository.add("m", b"this is no model", 2)
    answer = server.load("m")
    assert answer.status in (400, 503)
    assert "load failed for model 'm'" in answer.error
    assert "model.onnx" in answer.error
    assert value_of(server) == 1
    assert server.index()["m", "2"]["reason"]


def test_requests_in_flight_are_answered_while_a_model_unloads(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(), config={"max_batch_size": 0})
    server = start(*EXPLICIT, "--load-model", "m")
    running = [Background(server, "m", one(300 * STEPS_PER_MS)) for _ in range(2)]
    wait_in_flight(server, "m", running=1, queued=1)
    assert server.unload("m").status == 200
    assert server.state("m") == "UNLOADING"
    assert server.infer("m", one()).status in (404, 503)
    assert [request.result().status for request in running] == [200, 200]
    wait_until(lambda: server.state("m") == "UNAVAILABLE", "m is unloaded")
    assert server.index()["m", "1"]["reason"] == "unloaded"


def test_a_model_can_be_loaded_again_while_it_still_unloads(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(), config={"max_batch_size": 0})
    server = start(*EXPLICIT, "--load-model", "m")
    running = Background(server, "m", one(500 * STEPS_PER_MS))
    wait_in_flight(server, "m", running=1, queued=0)
    server.unload("m")
    assert server.load("m").status == 200
    assert server.state("m") == "READY"
    assert server.infer("m", one()).status == 200
    assert running.result().status == 200
    wait_until(lambda: server.state("m") == "READY", "m stays ready")
    assert server.infer("m", one()).status == 200


@pytest.mark.parametrize(("megabytes", "times"), [(100, 3), (20, 10)])
def test_unloading_gives_the_memory_back(
    repository: Repository, start: Start, megabytes: int, times: int
) -> None:
    repository.add("small", constant(1))
    # Named, since to choose between frameworks would leave the other one's code in memory.
    repository.add("m", weights(megabytes), config={"backend": "onnxruntime"})
    server = start(*EXPLICIT, "--load-model", "small")
    before = server.resident_mb()
    body = {"inputs": [json_input("INPUT0", "FP32", [1, 256], [1.0] * 256)]}
    loaded = []
    for _ in range(times):
        assert server.load("m").status == 200
        assert server.infer("m", body).status == 200
        loaded.append(server.resident_mb())
        server.unload("m")
        wait_until(lambda: server.state("m") == "UNAVAILABLE", "m is unloaded")
    after = server.resident_mb()
    shown = ", ".join(f"{value:.0f}" for value in loaded)
    print(f"{megabytes} MB: RSS before {before:.0f}, loaded {shown}, after {after:.0f} MB")
    assert min(loaded) > before + megabytes * 0.8
    assert after < before + min(30, megabytes * 0.75)
