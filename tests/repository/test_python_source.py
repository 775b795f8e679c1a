"""Models written in Python are found without running their file."""

import os
from pathlib import Path
from textwrap import dedent

import pytest

from inferd.errors import ConfigError
from inferd.repository.layout import scan
from inferd.repository.source import ModelSource

APP = """
import os
import inferd
from inferd import Model as Base, depends

raise SystemExit("this file is never run")

class Digits(inferd.Model, max_batch_size=64, instances=3, python="/opt/env",
             memory_limit_mb=512, timeout_s=2.5, isolation="process"):
    def predict(self, x): ...

class Sentiment(Base, name="mood", requirements=("nltk==3.9", "x")):
    async def predict(self, text): ...

class Router(Base):
    digits = inferd.depends(Digits)
    mood: object = depends(Sentiment)
    other = depends("elsewhere")
    def predict(self, x): ...

class _Hidden(Base):
    def predict(self, x): ...

class Abstract(Base):
    def load(self): ...

class Model: ...
class NotOne(Model):
    def predict(self, x): ...
"""


def app(folder: Path, text: str = APP, name: str = "app.py") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(dedent(text))
    return folder / name


def found(*paths: Path | str) -> dict[str, ModelSource]:
    return scan([Path(path) for path in paths])


def test_a_file_is_all_models_in_it_and_it_is_not_run(tmp_path: Path) -> None:
    path = app(tmp_path)
    sources = found(path)
    assert list(sources) == ["Digits", "mood", "Router"]
    assert {source.backend for source in sources.values()} == {"python"}
    assert sources["mood"].versions[1].path == tmp_path / "app.py:Sentiment"


def test_options_that_are_written_out_are_the_configuration(tmp_path: Path) -> None:
    sources = found(app(tmp_path))
    digits = sources["Digits"].config
    assert (digits.python, digits.memory_limit_mb, digits.timeout_secs, digits.isolation) == (
        "/opt/env", 512, 2.5, "process",
    )  # fmt: skip
    assert digits.instance_count == 3
    assert sources["mood"].config.requirements == ("nltk==3.9", "x")
    assert sources["Router"].config.isolation == "auto"


def test_one_class_comes_with_what_it_depends_on(tmp_path: Path) -> None:
    path = app(tmp_path)
    assert set(found(f"{path}:Sentiment")) == {"mood"}
    assert set(found(f"{path}:Router")) == {"Router", "Digits", "mood"}
    assert set(found(f"{path}:Router", f"{path}:Digits")) == {"Router", "Digits", "mood"}
    assert set(found(f"main={path}:Router")) == {"main", "Digits", "mood"}
    assert set(found(f"{path}:_Hidden")) == {"_Hidden"}


def test_classes_of_files_beside_it_are_followed(tmp_path: Path) -> None:
    app(tmp_path, name="models.py")
    path = app(
        tmp_path,
        """
        import inferd, models
        from models import Sentiment as S
        class Own(models.Digits, instances=1):
            mood = inferd.depends(S)
            again = inferd.depends(models.Router)
        """,
    )
    sources = found(path)
    assert set(sources) == {"Own", "mood", "Router", "Digits"}
    own = sources["Own"]
    assert (own.config.python, own.config.instance_count) == ("/opt/env", 1)
    assert sources["mood"].versions[1].path == tmp_path / "models.py:Sentiment"


def test_a_subclass_may_depend_on_another_instead(tmp_path: Path) -> None:
    app(tmp_path / "parts", "", "__init__.py")
    app(tmp_path / "parts", APP, "more.py")
    path = app(
        tmp_path,
        """
        from parts.more import Router, Sentiment
        from inferd import depends
        class Other(Router):
            digits = depends(Sentiment)
        """,
    )
    assert set(found(path)) == {"Other", "mood"}


def test_files_that_import_each_other_are_read_once(tmp_path: Path) -> None:
    for name, other in (("a", "B"), ("b", "A")):
        app(
            tmp_path,
            f"""
            import inferd
            from {other.lower()} import {other}
            class {name.upper()}(inferd.Model):
                other = inferd.depends({other})
                def predict(self, x): ...
            """,
            f"{name}.py",
        )
    assert set(found(tmp_path / "a.py")) == {"A", "B"}


@pytest.mark.parametrize("change", ["app.py", "beside.py", "package/inner.py"])
def test_a_source_that_changes_looks_different(change: str, tmp_path: Path) -> None:
    path = app(tmp_path)
    app(tmp_path, "x = 1", "beside.py")
    app(tmp_path / "package", "", "__init__.py")
    app(tmp_path / "package", "y = 1", "inner.py")
    app(tmp_path / "data", "z = 1", "no_package.py")
    before = found(path)["mood"].versions[1].fingerprint
    os.utime(tmp_path / "data" / "no_package.py", (1, 1))
    assert found(path)["mood"].versions[1].fingerprint == before
    os.utime(tmp_path / change, (1, 1))
    assert found(path)["mood"].versions[1].fingerprint != before


def test_a_syntax_error_is_told_of_each_model_with_its_line(tmp_path: Path) -> None:
    text = APP.replace("def load(self): ...", "def load(self: ...")
    path = app(tmp_path, text)
    line = text.splitlines().index("    def load(self: ...") + 1
    assert set(found(f"{path}:Sentiment")) == {"mood"}
    sources = found(path)
    assert {"Digits", "mood", "Router"} <= set(sources)
    assert all(f"{path}, line {line}: " in source.error for source in sources.values())
    assert all(not source.versions for source in sources.values())


def test_a_file_of_bytes_is_no_python(tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_bytes(b"\x00\xff\xfe")
    (source,) = found(path).values()
    assert "app.py, line 1" in source.error


@pytest.mark.parametrize("text", [f"x = {'-' * 100_000}1", f"x = {'1+' * 20_000}1"])
def test_a_file_that_python_cannot_parse_is_told(text: str, tmp_path: Path) -> None:
    (source,) = found(app(tmp_path, text)).values()
    assert "app.py, line 1: nested too deeply" in source.error


def test_an_option_that_cannot_be_made_is_left_to_the_run(tmp_path: Path) -> None:
    path = app(tmp_path, APP.replace("instances=3", "instances={[]: 3}"))
    assert found(path)["Digits"].config.instance_group == ()


@pytest.mark.parametrize(
    ("text", "wanted", "told"),
    [
        (APP, ":Digit", "has no model 'Digit', did you mean Digits"),
        (APP, ":not a name", "is no name of a class"),
        ("x = 1", "", "has no model; expected a class that inherits from inferd.Model"),
        ("x = 1", ":X", "it has no subclass of inferd.Model"),
        (APP.replace('name="mood"', 'name=os.environ["X"]'), "", "option 'name' is needed before"),
        (APP.replace('python="/opt/env"', "python=ENV"), "", "line 8: .*option 'python'"),
        (
            "import inferd\nclass Y: ...\nclass X(inferd.Model):\n  y = inferd.depends(Y)\n"
            "  def predict(self): ...",
            "", r"inferd\.depends\(Y\).* has no model of that name",
        ),
    ],
)  # fmt: skip
def test_what_names_no_model_is_told(text: str, wanted: str, told: str, tmp_path: Path) -> None:
    path = app(tmp_path, text)
    with pytest.raises(ConfigError, match=f"(?s){told}"):
        found(f"{path}{wanted}")


def test_a_wrong_value_is_told_of_its_model_alone(tmp_path: Path) -> None:
    sources = found(app(tmp_path, APP.replace("512", '"much"')))
    assert "class Digits: " in sources["Digits"].error
    assert "memory_limit_mb" in sources["Digits"].error
    assert sources["mood"].error == ""


def test_a_repository_may_hold_python_models(tmp_path: Path) -> None:
    path = app(tmp_path / "m" / "1", name="model.py")
    (tmp_path / "m" / "config.yaml").write_text("python: /other\ninstance_group: [{count: 2}]")
    source = found(tmp_path)["m"]
    assert "has several models" not in source.error
    assert source.versions[1].path == path.with_name("model.py:Router")
    assert (source.config.python, source.config.instance_count) == ("/other", 2)
    assert set(found(tmp_path)) == {"m", "Digits", "mood"}
    (tmp_path / "m" / "config.yaml").write_text("default_model_filename: 'model.py:Digits'")
    source = found(tmp_path / "m")["m"]
    assert (source.versions[1].path.name, source.config.timeout_secs) == ("model.py:Digits", 2.5)
    path.write_text("def broken(")
    assert "model.py, line 1" in found(tmp_path)["m"].error


def test_several_models_in_a_repositorys_file_need_a_word(tmp_path: Path) -> None:
    app(tmp_path / "m" / "1", APP.replace("class Router", "class _Router"), "model.py")
    assert "say which: model.py:Digits" in found(tmp_path)["m"].error


@pytest.mark.parametrize(
    "source",
    [
        "class TritonPythonModel:\n    def execute(self, requests): ...",
        "from other import TritonPythonModel",
        "try:\n    from other import Fast as TritonPythonModel\nexcept ImportError: ...",
        "class Mine: ...\nTritonPythonModel = Mine",
    ],
)
@pytest.mark.parametrize("config", ["", "backend: python\n"])
def test_a_model_for_tritons_python_backend(source: str, config: str, tmp_path: Path) -> None:
    version = tmp_path / "repository" / "add_sub" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(f"raise SystemExit\n{source}\n")
    if config:
        (version.parent / "config.yaml").write_text(config)
    (found,) = scan((tmp_path / "repository",)).values()
    assert (found.name, found.backend, found.error) == ("add_sub", "python", "")
    assert found.versions[1].path.name == "model.py:TritonPythonModel"
