"""Which versions are served."""

from typing import Any

import pytest

from .conftest import Start
from .onnx_models import Repository, constant
from .process import ServerProcess, wait_until
from .traffic import one


def served(server: ServerProcess) -> list[str]:
    return list(server.get("/v2/models/m").json()["versions"])


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        (None, ["10"]),
        ({"latest": {"num_versions": 1}}, ["10"]),
        ({"latest": {"num_versions": 2}}, ["3", "10"]),
        ({"latest": {"num_versions": 9}}, ["2", "3", "10"]),
        ({"all": {}}, ["2", "3", "10"]),
        ({"specific": {"versions": [2]}}, ["2"]),
        ({"specific": {"versions": [10, 2, 7]}}, ["2", "10"]),
    ],
)
def test_the_version_policy_chooses_what_is_served(
    repository: Repository, start: Start, policy: dict[str, Any] | None, versions: list[str]
) -> None:
    for version in (2, 3, 10):
        repository.add("m", constant(version), version)
    if policy is not None:
        repository.configure("m", {"version_policy": policy})
    server = start()
    assert served(server) == versions
    assert server.infer("m", one()).json()["model_version"] == versions[-1]
    for asked in ("2", "3", "10"):
        answer = server.request("POST", f"/v2/models/m/versions/{asked}/infer", one())
        if asked in versions:
            assert answer.json()["outputs"][0]["data"] == [float(asked)]
        else:
            assert answer.status in (404, 503)
            assert f"'m' version {asked} is not" in answer.error


def test_folders_that_are_no_versions_are_ignored(repository: Repository, start: Start) -> None:
    repository.add("m", constant(1), 1)
    for name in ("02", "0", "x", "-1", ".git", "1.5"):
        (repository.root / "m" / name).mkdir()
        (repository.root / "m" / name / "model.onnx").write_bytes(b"not a model")
    assert served(start()) == ["1"]


def test_a_policy_that_chooses_nothing_is_said_in_the_index(
    repository: Repository, start: Start
) -> None:
    repository.add("good", constant(1))
    repository.add("m", constant(1), 1, {"version_policy": {"specific": {"versions": [7]}}})
    server = start(wait=False).wait_listening()

    def reasons() -> str:
        return " ".join(
            line.get("reason", "") for (name, _), line in server.index().items() if name == "m"
        )

    wait_until(lambda: "version policy" in reasons(), "the index says why")
    assert server.infer("m", one()).status in (404, 503)
