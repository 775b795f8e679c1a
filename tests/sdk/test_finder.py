import textwrap
from pathlib import Path

import pytest

from inferd.errors import BackendError
from inferd.sdk.finder import find_model_class
from inferd.sdk.runtime import ModelRuntime
from sdk.calls import outputs, run, texts

ONE = """
import inferd

class Echo(inferd.Model):
    def predict(self, text: str) -> str:
        return text + "!"
"""
TWO = ONE + "\nclass Loud(Echo):\n    pass\n"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))


def write(folder: Path, text: str, name: str = "app.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_the_only_model_is_found_and_runs(tmp_path: Path) -> None:
    found = find_model_class(write(tmp_path, ONE))
    assert found.__name__ == "Echo"
    assert outputs(run(found, texts("a"))[0]) == [[b"a!"]]


def test_one_of_several_is_chosen_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, TWO)
    assert find_model_class(path, "Loud").__name__ == "Loud"
    with pytest.raises(BackendError, match=r"app\.py: there are several models in it, say which: "
                                           r"Echo, Loud"):  # fmt: skip
        find_model_class(path)
    with pytest.raises(BackendError, match="there is no model class 'Quiet' in it; there are: "
                                           "Echo, Loud"):  # fmt: skip
        find_model_class(path, "Quiet")


def test_a_file_without_models_says_so(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"there is no subclass of inferd\.Model in it"):
        find_model_class(write(tmp_path, "import inferd\nModel = inferd.Model\n"))


def test_a_module_beside_it_can_be_imported_and_its_models_named(tmp_path: Path) -> None:
    write(tmp_path, ONE, "beside_app.py")
    path = write(tmp_path, "from beside_app import Echo\nclass Mine(Echo):\n    pass\n")
    assert find_model_class(path).__name__ == "Mine"
    assert find_model_class(path, "Echo").__name__ == "Echo"


def test_annotations_that_are_strings_are_resolved(tmp_path: Path) -> None:
    text = "from __future__ import annotations\n" + ONE
    assert ModelRuntime(find_model_class(write(tmp_path, text))).card.inputs[0].name == "text"


def test_each_call_reads_the_file_anew(tmp_path: Path) -> None:
    path = write(tmp_path, ONE)
    first = find_model_class(path)
    second = find_model_class(write(tmp_path, ONE.replace("!", "?")))
    assert outputs(run(second, texts("a"))[0]) == [[b"a?"]]
    assert first.__module__ != second.__module__
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nclass A(:\n", r"app\.py, line 2: SyntaxError: invalid syntax"),
        ("x = 1\n\ny = x.z\n", r"app\.py, line 3: AttributeError: 'int' object has no attribute"),
        ("import sys\nsys.exit(4)\n", r"app\.py, line 2: SystemExit: 4"),
        ("import no_such_module\n", r"app\.py, line 1: ModuleNotFoundError: No module named"),
        (
            "import inferd\nclass A(inferd.Model, batch=3):\n    pass\n",
            r"app\.py, line 2: TypeError: A: there is no option 'batch'",
        ),
    ],
)
def test_a_file_that_fails_is_told_by_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        find_model_class(write(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"none\.py: FileNotFoundError"):
        find_model_class(tmp_path / "none.py")


def test_a_target_of_a_dependency_can_be_found_again(tmp_path: Path) -> None:
    text = (
        TWO
        + "\nclass All(inferd.Model):\n    echo = inferd.depends(Echo)\n"
        + ("    def predict(self, text: str) -> str:\n        return self.echo.predict(text)\n")
    )
    card = ModelRuntime(find_model_class(write(tmp_path, text), "All")).card
    file, _, name = card.depends[0].target.rpartition(":")
    assert find_model_class(Path(file), name).__name__ == "Echo"
