"""Files of every format that are another's, or cut off: told of by name, and the others served."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.harness import RunningServer
from e2e.test_bad_models import index
from inferd.repository.formats import FORMATS, SUFFIXES
from trained import MAKERS
from trained.model import Trained

Serve = Callable[..., RunningServer]

FILES = {
    kind: make for kind, make in MAKERS.items()
    if not kind.startswith("mlflow") and kind != "saved-model"
}  # fmt: skip
"""Makers of models that are one file."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for kind, make in FILES.items():
        (folder / kind).mkdir()
        made[kind] = make(folder / kind)
    return made


def named(models: dict[str, Trained], folder: Path) -> dict[str, Path]:
    """Each model under the name of every format that it is not, apart from names that other files
    than models have as well: there, it is passed over."""
    wrong = {}
    for kind, model in models.items():
        right = {f.backend for f in FORMATS if f.suffix == model.path.suffix}
        for suffix in dict.fromkeys(f.suffix for f in FORMATS if not f.shared):
            if right & {f.backend for f in FORMATS if f.suffix == suffix}:
                continue
            name = f"{kind}-as-{suffix[1:]}"
            wrong[name] = shutil.copy(model.path, folder / f"{name}{suffix}")
    return wrong


def cut(models: dict[str, Trained], folder: Path) -> dict[str, Path]:
    """The first half of each."""
    halves = {}
    for kind, model in models.items():
        data = model.path.read_bytes()
        name = f"{kind}-cut"
        halves[name] = folder / f"{name}{model.path.suffix}"
        halves[name].write_bytes(data[: len(data) // 2])
        weights = model.path.with_suffix(".bin")
        if weights.exists():
            shutil.copy(weights, halves[name].with_suffix(".bin"))
    return halves


@pytest.mark.parametrize("damage", [named, cut])
def test_a_file_that_is_not_what_its_name_says_is_told_and_the_others_are_served(
    damage: Callable[[dict[str, Trained], Path], dict[str, Path]],
    models: dict[str, Trained], serve: Serve, tmp_path: Path,
) -> None:  # fmt: skip
    bad = damage(models, tmp_path)
    good = models["skops"]
    server = serve(tmp_path, f"good={good.path}", "--trust")
    lines = index(server)
    assert lines.pop("good")["state"] == "READY"
    assert set(lines) == set(bad)
    for name, path in bad.items():
        assert lines[name]["state"] == "UNAVAILABLE", name
        assert path.name in lines[name]["reason"], (name, lines[name]["reason"])
        assert "Traceback" not in lines[name]["reason"]
        assert server.post(f"/models/{name}", {}).status == 503
    asked = {name: rows.tolist() for name, rows in good.inputs.items()}
    answer = server.post("/models/good", asked)
    assert answer.status == 200, answer
    first, wanted = next(iter(good.outputs.items()))
    assert answer.json()[first] == wanted.tolist()
    assert server.get("/v2/health/live").status == 200


def test_every_format_is_tried(models: dict[str, Trained]) -> None:
    assert {model.path.suffix for model in models.values()} >= {*SUFFIXES} - {
        ".py", ".pkl", ".pickle",  # one is read as code, two as .joblib is
    }  # fmt: skip
