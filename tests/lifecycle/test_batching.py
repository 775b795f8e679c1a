"""The options of dynamic batching, seen from outside: who shares a batch, who waits, in what order.

`work` says how long it takes by the values it is sent, so that each test knows what is running.
"""

import time
from typing import Any

import pytest

from .conftest import Start
from .onnx_models import STEPS_PER_MS, Repository, lookup, work
from .process import ServerProcess, json_input
from .traffic import Background, metrics, one, traffic, wait_in_flight

HELD = one(500 * STEPS_PER_MS)


@pytest.fixture
def start(start: Start) -> Start:
    """As of old, and the first look at its metrics, which takes longest, is over."""

    def looked_at(**options: Any) -> ServerProcess:
        server = start(**options)
        if options.get("wait", True):
            metrics(server)
        return server

    return looked_at


def batching(size: int = 8, **options: Any) -> dict[str, Any]:
    return {"max_batch_size": size, "dynamic_batching": options}


def batch_sizes(server: ServerProcess) -> dict[int, int]:
    """How many batches of each size have run."""
    entries = server.statistics("m")["batch_stats"]
    return {entry["batch_size"]: entry["compute_infer"]["count"] for entry in entries}


def test_requests_that_come_while_an_instance_is_busy_share_the_next_batch(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(), config=batching())
    server = start()
    held = Background(server, "m", HELD)
    wait_in_flight(server, "m", running=1, queued=0)
    others = [Background(server, "m", one(number)) for number in range(6)]
    wait_in_flight(server, "m", running=1, queued=6)
    assert not held.done()
    data = [other.result().json()["outputs"][0]["data"] for other in others]
    assert data == [[float(number)] for number in range(6)]
    assert batch_sizes(server) == {1: 1, 6: 1}


def test_a_batch_never_has_more_rows_than_allowed(repository: Repository, start: Start) -> None:
    repository.add("m", work(), config=batching(4))
    server = start()
    held = Background(server, "m", HELD)
    wait_in_flight(server, "m", running=1, queued=0)
    three = {"inputs": [json_input("INPUT0", "FP32", [3, 1], [1.0, 2.0, 3.0])]}
    others = [Background(server, "m", three) for _ in range(3)]
    wait_in_flight(server, "m", running=1, queued=3)
    for other in (held, *others):
        assert other.result().status == 200
    assert batch_sizes(server) == {1: 1, 3: 3}


def test_a_lone_request_waits_for_nobody_by_default(repository: Repository, start: Start) -> None:
    repository.add("m", work(), config=batching())
    server = start()
    for _ in range(5):
        assert server.infer("m", one()).status == 200
    assert batch_sizes(server) == {1: 5}


def test_a_queue_delay_makes_batches_under_concurrent_load(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(), config=batching(max_queue_delay_microseconds=20_000))
    server = start()
    with traffic(server, "m", threads=6) as seen:
        seen.wait_for_more(120)
    assert seen.errors == []
    values = metrics(server)
    executions = values['nv_inference_exec_count{model="m",version="1"}']
    requests = values['nv_inference_request_success{model="m",version="1"}']
    assert requests >= 120
    assert executions < requests / 2


def test_a_batch_that_does_not_fill_leaves_when_its_delay_is_over(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(), config=batching(max_queue_delay_microseconds=300_000))
    server = start()
    asked = [Background(server, "m", one()) for _ in range(3)]
    assert [request.result().status for request in asked] == [200] * 3
    assert batch_sizes(server) == {3: 1}
    assert 0.29 < max(request.seconds for request in asked) < 2


def test_a_preferred_size_leaves_before_the_delay_is_over(
    repository: Repository, start: Start
) -> None:
    options = {"preferred_batch_size": [4], "max_queue_delay_microseconds": 10_000_000}
    repository.add("m", work(), config=batching(**options))
    server = start()
    asked = [Background(server, "m", one()) for _ in range(4)]
    assert [request.result().status for request in asked] == [200] * 4
    assert max(request.seconds for request in asked) < 5
    assert batch_sizes(server) == {4: 1}
    assert metrics(server)['inferd_batches_closed_total{model="m",reason="preferred",version="1"}']


def test_a_preferred_size_over_the_largest_fails_the_load(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(), config=batching(4, preferred_batch_size=[8]))
    server = start(wait=False)
    assert server.wait() == 2
    assert "preferred_batch_size" in server.log_text()


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(
    repository: Repository, start: Start
) -> None:
    config = batching(1, default_queue_policy={"max_queue_size": 2})
    repository.add("m", work(), config=config)
    server = start()
    accepted = [Background(server, "m", HELD)]
    wait_in_flight(server, "m", running=1, queued=0)
    accepted += [Background(server, "m", one()) for _ in range(2)]
    wait_in_flight(server, "m", running=1, queued=2)
    start_s = time.monotonic()
    answer = server.infer("m", one())
    assert time.monotonic() - start_s < 0.2
    assert not accepted[0].done()
    assert answer.status == 503
    assert "Exceeds maximum queue size" in answer.error
    assert int(answer.headers["retry-after"]) >= 1
    assert [request.result().status for request in accepted] == [200] * 3
    rejected = 'nv_inference_request_failure{model="m",reason="REJECTED",version="1"}'
    assert metrics(server)[rejected] == 1


@pytest.mark.parametrize("preserved", [True, False])
def test_answers_keep_the_order_of_requests_when_that_is_asked_for(
    repository: Repository, start: Start, preserved: bool
) -> None:
    config = batching(1, preserve_ordering=preserved) | {"instance_group": [{"count": 2}]}
    repository.add("m", work(), config=config)
    server = start()
    slow = Background(server, "m", HELD)
    wait_in_flight(server, "m", running=1, queued=0)
    assert server.infer("m", one()).status == 200
    finished = server.statistics("m")["inference_stats"]["success"]["count"]
    assert finished == (2 if preserved else 1)
    assert slow.result().status == 200


@pytest.mark.parametrize("count", [1, 2])
def test_as_many_requests_run_side_by_side_as_there_are_instances(
    repository: Repository, start: Start, count: int
) -> None:
    config = batching(1) | {"instance_group": [{"kind": "KIND_CPU", "count": count}]}
    repository.add("m", work(), config=config)
    server = start()
    assert server.get("/v2/models/m/config").json()["instance_group"][0]["count"] == count
    asked = [Background(server, "m", HELD) for _ in range(2)]
    wait_in_flight(server, "m", running=count, queued=2 - count)
    assert [request.result().status for request in asked] == [200, 200]


def test_one_bad_request_does_not_fail_the_others_of_its_batch(
    repository: Repository, start: Start
) -> None:
    repository.add("m", lookup(), config=batching(max_queue_delay_microseconds=300_000))
    server = start()
    sent = [1, 2, 99, 3, 4]
    asked = [
        Background(server, "m", {"inputs": [json_input("INPUT0", "INT64", [1, 1], [number])]})
        for number in sent
    ]
    answers = [request.result() for request in asked]
    assert [answer.status for answer in answers] == [200, 200, 400, 200, 200]
    good = [answer.json()["outputs"][0]["data"] for answer in answers if answer.status == 200]
    assert good == [[1.0], [2.0], [3.0], [4.0]]


# -- time limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "asked_us", "expires"),
    [
        ({"default_timeout_microseconds": 50_000}, 0, True),
        ({"default_timeout_microseconds": 50_000}, 60_000_000, True),
        ({"default_timeout_microseconds": 60_000_000}, 50_000, True),
        ({"allow_timeout_override": False}, 50_000, False),
        ({}, 0, False),
    ],
)
def test_a_request_can_shorten_but_not_lengthen_how_long_it_may_wait(
    repository: Repository, start: Start, policy: dict[str, Any], asked_us: int, expires: bool
) -> None:
    repository.add("m", work(), config=batching(1, default_queue_policy=policy))
    server = start()
    held = Background(server, "m", HELD)
    wait_in_flight(server, "m", running=1, queued=0)
    answer = server.infer("m", one() | {"parameters": {"timeout": asked_us}})
    assert (answer.status == 503) is expires
    if expires:
        assert answer.error == "Request timeout expired"
        assert not held.done()
    assert held.result().status == 200


@pytest.mark.parametrize("queued", [True, False])
def test_the_deadline_header_ends_a_request_that_waits_or_runs(
    repository: Repository, start: Start, queued: bool
) -> None:
    repository.add("m", work(), config=batching(1))
    server = start()
    held = Background(server, "m", HELD) if queued else None
    wait_in_flight(server, "m", running=int(queued), queued=0)
    start_s = time.monotonic()
    answer = server.infer("m", HELD, x_request_timeout_ms="100")
    assert 0.09 < time.monotonic() - start_s < 0.4
    assert (answer.status, answer.error) == (503, "Request timeout expired")
    if held is not None:
        assert held.result().status == 200
    assert server.infer("m", one(), x_request_timeout_ms="20000").status == 200


@pytest.mark.parametrize("value", ["0", "-5", "soon", "nan", "inf", ""])
def test_a_deadline_that_is_no_positive_number_is_400(
    repository: Repository, start: Start, value: str
) -> None:
    repository.add("m", work(), config=batching(1))
    answer = start().infer("m", one(), x_request_timeout_ms=value)
    assert answer.status == 400
    assert "x-request-timeout-ms" in answer.error


def test_a_model_whose_time_depends_on_its_values_does_not_hold_up_the_server(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(0), config=batching())
    server = start()
    for _ in range(20):
        assert server.infer("m", one()).status == 200
    held = Background(server, "m", HELD)
    waits_s = []
    while not held.done():
        start_s = time.monotonic()
        assert server.status("/v2/health/live") == 200
        waits_s.append(time.monotonic() - start_s)
    assert held.result().status == 200
    assert max(waits_s) < 0.2
