"""When the server says that it is ready: every required model loaded and warm."""

import pytest

from .conftest import Start
from .onnx_models import STEPS_PER_MS, Repository, constant, identity, work
from .process import wait_until
from .traffic import metric, one

BROKEN = b"this is no model"


def warmup(count: int, **data: object) -> dict[str, object]:
    data = {"data_type": "TYPE_FP32", "dims": [1], "zero_data": True} | data
    return {
        "max_batch_size": 8,
        "model_warmup": [
            {"name": "w", "batch_size": 1, "count": count, "inputs": {"INPUT0": data}}
        ],
    }


def test_the_server_is_live_and_not_ready_while_a_model_warms_up(
    repository: Repository, start: Start
) -> None:
    repository.add("quick", constant(1))
    repository.add("m", work(100 * STEPS_PER_MS), config=warmup(12))
    server = start(wait=False).wait_listening()
    assert server.status("/v2/health/live") == 200
    assert server.status("/v2/health/ready") == 400
    wait_until(lambda: server.state("m") == "LOADING", "m is loading")
    assert server.infer("m", one()).status == 503
    assert server.status("/v2/models/m/ready") == 400
    server.wait_ready()
    assert server.state("m") == "READY"
    assert server.infer("m", one()).status == 200


def test_a_model_that_loaded_answers_while_its_neighbour_still_loads(
    repository: Repository, start: Start
) -> None:
    repository.add("quick", constant(1))
    repository.add("m", work(100 * STEPS_PER_MS), config=warmup(12))
    server = start(wait=False).wait_listening()
    wait_until(lambda: server.state("quick") == "READY", "quick is ready")
    assert server.state("m") == "LOADING"
    assert server.infer("quick", one()).status == 200


def test_warm_up_requests_run_before_the_model_is_ready(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(20 * STEPS_PER_MS), config=warmup(20))
    repository.add("once", work(20 * STEPS_PER_MS), config=warmup(1))
    server = start()
    load_s = {name: metric(server, "nv_model_load_duration_secs", name) for name in ("m", "once")}
    assert load_s["m"] > load_s["once"] + 0.15
    assert metric(server, "nv_inference_count", "m") == 0


def test_warm_up_can_be_random(repository: Repository, start: Start) -> None:
    config = warmup(2, zero_data=False, random_data=True, dims=[4])
    repository.add("m", identity(), config=config)
    assert start().state("m") == "READY"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"data_type": "TYPE_INT32"}, "model_warmup"),
        ({"dims": [3]}, ""),
    ],
)
def test_a_warm_up_that_does_not_fit_fails_the_load_and_says_why(
    repository: Repository, start: Start, wrong: dict[str, object], named: str
) -> None:
    repository.add("good", constant(1))
    repository.add("m", identity(), config=warmup(1, **({"dims": [4]} | wrong)))
    server = start(wait=False).wait_listening()
    line = wait_until(
        lambda: server.state("m") == "UNAVAILABLE" and server.index()["m", "1"], "m has failed"
    )
    assert line["reason"]
    assert named in line["reason"]


def test_a_required_model_that_fails_keeps_the_server_unready(
    repository: Repository, start: Start
) -> None:
    repository.add("good", constant(1))
    repository.add("m", BROKEN)
    server = start(wait=False).wait_listening()
    wait_until(lambda: server.state("good") == "READY", "the good model is ready")
    wait_until(lambda: server.state("m") == "UNAVAILABLE", "the broken model has failed")
    wait_until(lambda: "inferd 0" in server.log_text(), "the start is over")
    assert server.status("/v2/health/ready") == 400
    assert server.status("/v2/health/live") == 200
    assert server.infer("good", one()).status == 200
    answer = server.infer("m", one())
    assert answer.status == 503
    assert "'m'" in answer.error


def test_a_model_that_is_not_required_may_fail(repository: Repository, start: Start) -> None:
    repository.add("good", constant(1))
    repository.add("m", BROKEN, config={"required": False})
    server = start()
    assert server.state("m") == "UNAVAILABLE"
    assert server.index()["m", "1"]["reason"]


def test_readiness_need_not_be_strict(repository: Repository, start: Start) -> None:
    repository.add("good", constant(1))
    repository.add("m", BROKEN)
    server = start("--no-strict-readiness")
    assert server.state("m") == "UNAVAILABLE"


def test_a_configuration_that_is_wrong_fails_its_model_alone(
    repository: Repository, start: Start
) -> None:
    repository.add("good", constant(1))
    repository.add("m", constant(1), config={"max_batch_size": "many"})
    server = start(wait=False).wait_listening()
    wait_until(lambda: server.state("good") == "READY", "the good model is ready")
    line = next(line for (name, _), line in server.index().items() if name == "m")
    assert "max_batch_size" in line["reason"]
    assert server.status("/v2/health/ready") == 400
