"""Start and stop of the process: what it answers on the way out, and the status it leaves."""

import http.client
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import Start
from .onnx_models import STEPS_PER_MS, Repository, constant, work
from .process import ServerProcess, command, environment, free_port, wait_until
from .traffic import Background, one, traffic, wait_in_flight

UNBATCHED = {"max_batch_size": 0}


def held(server: ServerProcess, milliseconds: int) -> Background:
    """A request that runs so long; returns once it runs."""
    request = Background(server, "m", one(milliseconds * STEPS_PER_MS))
    wait_in_flight(server, "m", running=1, queued=0)
    return request


def draining(server: ServerProcess) -> bool:
    return "shutting down" in server.log_text()


def test_requests_in_flight_are_answered_and_new_ones_refused(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(), config=UNBATCHED)
    server = start()
    accepted = [held(server, 1500), Background(server, "m", one(5))]
    wait_in_flight(server, "m", running=1, queued=1)
    server.terminate()
    wait_until(lambda: draining(server), "the server drains", 1)
    assert server.status("/v2/health/ready") == 503
    assert server.status("/v2/health/live") == 503
    assert server.status("/v2/models/m/ready") != 200
    answer = server.infer("m", one())
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["connection"] == "close"
    assert not accepted[0].done()
    assert [request.result().status for request in accepted] == [200, 200]
    assert [request.result().json()["outputs"][0]["data"] for request in accepted] == [
        [1500.0 * STEPS_PER_MS], [5.0],
    ]  # fmt: skip
    assert server.wait(5) == 0


def test_sigterm_under_load_ends_with_status_0_and_no_broken_answer(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(), config={"max_batch_size": 8})
    server = start()
    with traffic(server, "m", threads=6) as seen:
        seen.wait_for_more(50)
        start_s = time.monotonic()
        server.terminate()
        assert server.wait(10) == 0
        assert time.monotonic() - start_s < 5
    assert seen.statuses() <= {200, 503}
    assert not [error for error in seen.errors if "IncompleteRead" in error]
    assert "still in flight" not in server.log_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once_with_idle_connections_open(
    repository: Repository, start: Start, number: signal.Signals
) -> None:
    repository.add("m", constant(1))
    server = start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/v2")
    assert connection.getresponse().read()
    start_s = time.monotonic()
    server.process.send_signal(number)
    assert server.wait(5) == 0
    assert time.monotonic() - start_s < 2
    connection.close()


def test_a_connection_that_sends_half_a_request_does_not_hold_up_the_exit(
    repository: Repository, start: Start
) -> None:
    repository.add("m", constant(1))
    server = start("--exit-timeout-secs", "2")
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        half.sendall(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nx")
        wait_until(server.ready, "the server still answers")
        start_s = time.monotonic()
        server.terminate()
        server.wait(10)
        assert time.monotonic() - start_s < 4


def test_what_does_not_end_in_time_is_given_up_with_status_1(
    repository: Repository, start: Start
) -> None:
    repository.add("m", work(), config=UNBATCHED)
    server = start("--exit-timeout-secs", "0.5")
    given_up = held(server, 8000)
    start_s = time.monotonic()
    server.terminate()
    assert server.wait(30) == 1
    assert time.monotonic() - start_s < 4
    with pytest.raises((OSError, http.client.HTTPException)):
        given_up.result()
    assert "still in flight" in server.log_text()


def test_sigterm_while_models_still_load_ends_the_server(
    repository: Repository, start: Start
) -> None:
    warmup = {"name": "w", "batch_size": 0, "count": 100, "inputs": {
        "INPUT0": {"data_type": "TYPE_FP32", "dims": [1, 1], "zero_data": True}}}  # fmt: skip
    repository.add("m", work(100 * STEPS_PER_MS), config=UNBATCHED | {"model_warmup": [warmup]})
    server = start("--exit-timeout-secs", "1", wait=False).wait_listening()
    wait_until(lambda: server.state("m") == "LOADING", "m is loading")
    server.terminate()
    try:
        server.wait(5)
    finally:
        server.process.kill()


# -- what keeps it from starting -------------------------------------------------------------------


def failed_start(*arguments: str | Path) -> tuple[int, str]:
    """Exit status and error output of a server that should not start."""
    ended = subprocess.run(
        command("serve", *arguments), env=environment(), capture_output=True, timeout=30, text=True,
        check=False,
    )  # fmt: skip
    return ended.returncode, ended.stderr


def test_a_busy_port_is_a_clear_error_and_status_2(repository: Repository, start: Start) -> None:
    repository.add("m", constant(1))
    server = start()
    second = start(port=server.port, wait=False)
    assert second.wait(20) == 2
    assert f"cannot listen on 127.0.0.1:{server.port}" in second.log_text()
    assert "--http-port" in second.log_text()
    assert "Traceback" not in second.log_text()
    assert server.ready()


def test_a_port_is_free_again_at_once_after_a_stop(repository: Repository, start: Start) -> None:
    repository.add("m", constant(1))
    port = free_port()
    for _ in range(3):
        server = start(port=port)
        assert server.infer("m", one()).status == 200
        assert server.stop() == 0


@pytest.mark.parametrize("made", ["missing", "empty"])
def test_a_path_without_models_is_a_clear_error_and_status_2(tmp_path: Path, made: str) -> None:
    if made == "empty":
        (tmp_path / made).mkdir()
    status, text = failed_start(tmp_path / made, "--http-port", "0")
    assert status == 2
    assert str(tmp_path / made) in text
    assert "Traceback" not in text


def test_no_path_at_all_is_a_clear_error_and_status_2() -> None:
    status, text = failed_start("--http-port", "0")
    assert status == 2
    assert "inferd serve" in text


def test_when_no_model_loads_the_server_says_why_and_exits(repository: Repository) -> None:
    repository.add("m", b"this is no model")
    status, text = failed_start(repository.root, "--http-port", "0")
    assert status == 2
    assert "model.onnx" in text
    assert "Traceback" not in text


def test_exit_on_error_stops_for_one_bad_model(repository: Repository) -> None:
    repository.add("good", constant(1))
    repository.add("m", b"this is no model")
    status, text = failed_start(repository.root, "--exit-on-error", "--http-port", "0")
    assert status == 2
    assert "m: " in text
