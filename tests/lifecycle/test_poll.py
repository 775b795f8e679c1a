"""Poll mode: what is served follows the repository, and no request fails while it does."""

from collections.abc import Callable

import pytest

from .conftest import Start
from .onnx_models import Repository, constant
from .process import ServerProcess, wait_until
from .traffic import Seen, one, traffic

POLL = ("--model-control-mode", "poll", "--repository-poll-secs", "0.2")
ALL = {"version_policy": {"all": {}}}


@pytest.fixture
def polled(repository: Repository, start: Start) -> Callable[[], ServerProcess]:
    """Start a server that follows a repository with version 1 of model m, and a neighbour."""
    repository.add("m", constant(1))
    repository.add("neighbour", constant(7))
    return lambda: start(*POLL)


def value_of(server: ServerProcess, model: str = "m") -> float:
    return float(server.infer(model, one()).json()["outputs"][0]["data"][0])


def all_answered(seen: Seen) -> None:
    assert seen.errors == []
    assert seen.statuses() == {200}


def test_a_new_version_takes_over_under_load_without_a_failed_request(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    server = polled()
    with traffic(server, "m") as seen:
        repository.add("m", constant(2), 2)
        wait_until(lambda: server.state("m", "2") == "READY", "version 2 is ready")
        wait_until(lambda: server.state("m", "1") != "READY", "version 1 is retired")
        seen.wait_for_more(100)
    all_answered(seen)
    assert {(version, value) for _, version, value in seen.answers} == {("1", 1.0), ("2", 2.0)}
    assert {version for _, version, _ in seen.answers[-50:]} == {"2"}
    wait_until(lambda: server.state("m", "1") in ("", "UNAVAILABLE"), "version 1 is unloaded")
    assert server.ready()


def test_many_versions_in_a_row_take_over_without_a_failed_request(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    server = polled()
    with traffic(server, "m") as seen:
        for version in range(2, 8):
            repository.add("m", constant(version), version)
            if version > 2:
                repository.remove("m", version - 2)
            wait_until(lambda v=version: server.state("m", str(v)) == "READY", f"{version} ready")
    all_answered(seen)
    assert all(float(version) == value for _, version, value in seen.answers)


def test_a_version_that_fails_to_load_leaves_the_old_one_serving_and_says_why(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    server = polled()
    with traffic(server, "m") as seen:
        repository.add("m", b"this is no model", 2)
        wait_until(lambda: server.index().get(("m", "2"), {}).get("reason"), "a reason for 2")
        seen.wait_for_more(50)
    all_answered(seen)
    assert {version for _, version, _ in seen.answers} == {"1"}
    assert server.state("m", "1") == "READY"
    assert server.ready()
    repository.replace("m", constant(2), 2)
    wait_until(lambda: server.state("m", "2") == "READY", "the mended version is ready")
    wait_until(lambda: value_of(server) == 2, "the mended version answers")


def test_a_version_that_failed_is_not_tried_again_until_it_changes(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    server = polled()
    repository.add("m", b"this is no model", 2)
    wait_until(lambda: "failed to load" in server.log_text(), "the first failure")
    for number in range(3):  # each is seen in a later poll than the one before
        name = f"later{number}"
        repository.add(name, constant(0))
        wait_until(lambda n=name: server.state(n) == "READY", f"{name} is ready")
    assert server.log_text().count("failed to load") == 1
    assert server.state("m", "2") == "UNAVAILABLE"


def test_a_changed_file_is_loaded_without_a_failed_request(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    server = polled()
    with traffic(server, "m") as seen:
        repository.replace("m", constant(5))
        wait_until(lambda: value_of(server) == 5, "the changed file answers")
        seen.wait_for_more(20)
    all_answered(seen)
    assert {value for _, _, value in seen.answers} == {1.0, 5.0}


def test_a_file_that_is_changed_into_a_wrong_one_leaves_the_old_copy_serving(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    server = polled()
    with traffic(server, "m") as seen:
        repository.replace("m", b"this is no model")
        wait_until(lambda: server.index()["m", "1"].get("reason"), "a reason in the index")
        seen.wait_for_more(50)
    all_answered(seen)
    assert server.ready()


def test_a_removed_version_is_unloaded(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    repository.add("m", constant(2), 2, ALL)
    server = polled()
    assert value_of(server) == 2
    with traffic(server, "m") as seen:
        repository.remove("m", 2)
        wait_until(lambda: server.state("m", "2") in ("", "UNAVAILABLE"), "version 2 is unloaded")
        seen.wait_for_more(20)
    all_answered(seen)
    assert value_of(server) == 1
    answer = server.request("POST", "/v2/models/m/versions/2/infer", one())
    assert answer.status in (404, 503)
    assert server.ready()


def test_a_removed_model_is_unloaded_and_forgotten(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    server = polled()
    repository.remove("m")
    wait_until(lambda: server.state("m") in ("", "UNAVAILABLE"), "m is unloaded")
    wait_until(lambda: server.infer("m", one()).status == 404, "m is unknown")
    assert value_of(server, "neighbour") == 7
    assert server.ready()
    repository.add("m", constant(3))
    wait_until(lambda: server.state("m") == "READY", "m is back")
    assert value_of(server) == 3


def test_a_new_model_is_served(repository: Repository, polled: Callable[[], ServerProcess]) -> None:
    server = polled()
    repository.add("newcomer", constant(4))
    wait_until(lambda: server.state("newcomer") == "READY", "the new model is ready")
    assert value_of(server, "newcomer") == 4


def test_a_changed_configuration_is_taken_over_without_a_failed_request(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    repository.configure("m", {"max_batch_size": 8})
    server = polled()
    with traffic(server, "m") as seen:
        repository.configure("m", {"max_batch_size": 4})
        wait_until(
            lambda: server.get("/v2/models/m/config").json()["max_batch_size"] == 4, "a new size"
        )
        seen.wait_for_more(20)
    all_answered(seen)


def test_a_configuration_that_becomes_wrong_leaves_the_model_serving_and_says_why(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    server = polled()
    with traffic(server, "m") as seen:
        repository.configure("m", {"max_batch_sizes": 4})
        wait_until(
            lambda: any("max_batch_sizes" in line.get("reason", "")
                        for line in server.index().values()), "the index names the field", 5,
        )  # fmt: skip
        seen.wait_for_more(20)
    all_answered(seen)
    repository.configure("m", {"max_batch_size": 4})
    wait_until(lambda: not server.index()["m", "1"].get("reason"), "the reason is gone")


def test_what_did_not_change_is_not_loaded_again(
    repository: Repository, polled: Callable[[], ServerProcess]
) -> None:
    server = polled()
    repository.add("newcomer", constant(4))
    wait_until(lambda: server.state("newcomer") == "READY", "the new model is ready")
    assert server.log_text().count("model loaded model=neighbour") == 1


@pytest.mark.parametrize("action", ["load", "unload"])
def test_loading_through_the_api_is_refused(
    polled: Callable[[], ServerProcess], action: str
) -> None:
    answer = polled().request("POST", f"/v2/repository/models/m/{action}")
    assert answer.status in (400, 503)
    assert answer.error == "explicit model load / unload is not allowed if polling is enabled"
