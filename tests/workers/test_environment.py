"""The Python that a model's workers run with."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from inferd import testing
from inferd.config.model import ModelConfig
from inferd.errors import ConfigError
from inferd.testing import ServerFailed
from inferd.workers.environment import python_of

SOURCE = """
import sys
import inferd
import only_there

class Elsewhere(inferd.Model, python={python!r}):
    def predict(self, x: int) -> str:
        return f"{{sys.prefix}} {{only_there.WORD}} {{x}}"
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that sees this one's packages, and one module more."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    (packages / "theirs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (packages / "only_there.py").write_text("WORD = 'found'\n")
    return folder


def test_a_model_runs_in_an_environment_of_its_own(environment: Path, tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(SOURCE.format(python=str(environment)))
    with testing.serve(f"{file}:Elsewhere") as server:
        assert server.predict("Elsewhere", x=3) == f"{environment} found 3"


def test_an_environment_that_lacks_what_a_worker_needs_is_refused(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    with pytest.raises(ConfigError, match=r"pip install numpy.* msgspec") as refused:
        python_of(ModelConfig(python=str(bare)))
    assert refused.value.field == "python"
    with pytest.raises(ConfigError, match="neither an interpreter nor an environment"):
        python_of(ModelConfig(python=str(tmp_path / "nowhere")))


def test_a_model_that_its_environment_cannot_run_says_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text("import only_there\n" + SOURCE.format(python=""))
    missing = pytest.raises(ServerFailed, match="No module named 'only_there'")
    with missing, testing.serve(f"{file}:Elsewhere"):
        pass


class FakePython:
    """An interpreter that installs nothing, quickly; `meanwhile` is what a shell does when it is
    told to."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "python"
        self.meanwhile("true")

    def meanwhile(self, command: str) -> None:
        self.file.write_text(
            "#!/bin/sh -e\n"
            'if [ "$2" = venv ]; then mkdir "$3/bin"; cp "$0" "$3/bin/python"; exit; fi\n'
            f"{command}\n"
        )
        self.file.chmod(0o755)

    def environment(self) -> Path:
        config = ModelConfig(python=str(self.file), requirements=("anything",))
        return Path(python_of(config)).parent.parent


def test_an_environment_that_another_server_has_made_meanwhile_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    python = FakePython(tmp_path)
    folder = python.environment()
    theirs = folder.rename(tmp_path / "theirs")
    python.meanwhile(f"touch {theirs}/theirs; mv {theirs} {folder}")
    assert python.environment() == folder
    assert (folder / "theirs").is_file()
    assert list(folder.parent.iterdir()) == [folder]


def test_an_environment_that_is_not_whole_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    python = FakePython(tmp_path)
    folder = python.environment()
    (folder / "complete").unlink()
    with pytest.raises(ConfigError, match=f"{folder}: Directory not empty; remove what is there"):
        python.environment()
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.slow
def test_requirements_make_an_environment_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "app.py"
    file.write_text(
        "import inferd, iniconfig\n\n"
        "class Needs(inferd.Model, requirements=('iniconfig==2.1.0',)):\n"
        "    def predict(self) -> str:\n        return iniconfig.__file__\n"
    )
    found = []
    for _ in range(2):
        with testing.serve(f"{file}:Needs") as server:
            found.append(server.predict("Needs"))
    assert found[0] == found[1]
    assert str(tmp_path / "cache") in found[0]
    wrong = ModelConfig(requirements=("no-such-package-as-this==1",))
    with pytest.raises(ConfigError, match="cannot be installed"):
        python_of(wrong)
    (made,) = (tmp_path / "cache" / "inferd" / "environments").iterdir()
    assert (made / "complete").is_file()
