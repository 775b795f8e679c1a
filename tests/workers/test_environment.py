"""The Python that a model's workers run with."""

import io
import os
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

from inferd import testing
from inferd.config.model import ModelConfig
from inferd.errors import ConfigError
from inferd.testing import ServerFailed
from inferd.workers.environment import environment_of, python_of

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


# -- Triton's EXECUTION_ENV_PATH ---------------------------------------------------------------


def told(path: str) -> ModelConfig:
    return ModelConfig(parameters={"EXECUTION_ENV_PATH": {"string_value": path}})


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as made:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            made.addfile(entry, io.BytesIO(content))
    return path


def python_script() -> bytes:
    """A program that stands for an environment's Python: it is this one."""
    return f'#!/bin/sh\nexec {sys.executable} "$@"\n'.encode()


def test_an_execution_environment_in_the_models_folder(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "env").symlink_to(environment)
    found = environment_of(told("$$TRITON_MODEL_DIRECTORY/env"), tmp_path)
    root = tmp_path / "env"
    assert found.python == str(root / "bin" / "python")
    assert found.variables["CONDA_PREFIX"] == str(root)
    assert found.variables["PATH"].startswith(str(root / "bin"))
    assert environment_of(ModelConfig(), tmp_path) == (sys.executable, {})


def test_an_execution_environment_is_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packed = archive(tmp_path / "env.tar.gz", ("bin/python", python_script()))
    first = environment_of(told(str(packed)), tmp_path)
    assert first.python.startswith(str(tmp_path / "cache"))
    inode = Path(first.python).stat().st_ino
    assert environment_of(told(str(packed)), tmp_path) == first
    assert Path(first.python).stat().st_ino == inode
    os.utime(packed, ns=(1, 1))
    assert environment_of(told(str(packed)), tmp_path) != first


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_an_archive_that_would_write_elsewhere_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bad = (name.replace("/outside", f"{tmp_path}/outside") if name[0] == "/" else name, b"x")
    packed = archive(tmp_path / "env.tar.gz", ("bin/python", python_script()), bad)
    if name[0] == "/":  # what is absolute is taken for relative, and stays inside
        environment_of(told(str(packed)), tmp_path)
    else:
        with pytest.raises(ConfigError, match="cannot be unpacked"):
            environment_of(told(str(packed)), tmp_path)
        assert not list((tmp_path / "cache").rglob("python"))
    assert not list(tmp_path.glob("outside"))


@pytest.mark.parametrize(
    ("content", "said"), [(None, "neither an archive nor a folder"), (b"", "cannot be unpacked")]
)
def test_a_bad_archive_is_told(
    content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "env.tar.gz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as refused:
        environment_of(told(str(file)), tmp_path)
    assert refused.value.field == "parameters.EXECUTION_ENV_PATH"
