"""The Python that a model's workers run with: the server's, one that the model names, or one made
for its requirements and kept. It blocks.
"""

import hashlib
import logging
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from inferd.config.model import ModelConfig
from inferd.errors import ConfigError

_log = logging.getLogger("inferd.worker")

NEEDED: Final = ("numpy>=1.26", "msgspec>=0.19")
"""What a worker itself needs, apart from what the model needs."""

_CHECK: Final = "import sys, numpy, msgspec; assert sys.version_info >= (3, 11), sys.version"


EXECUTION_ENV: Final = "EXECUTION_ENV_PATH"
"""The parameter by which Triton's Python backend is told an environment: a folder, or an archive as
conda-pack makes it..."""

MODEL_DIRECTORY: Final = "$$TRITON_MODEL_DIRECTORY"
"""...in which this stands for the model's own folder."""


class Environment(NamedTuple):
    """What workers run with: an interpreter, and variables beside the server's own."""

    python: str
    variables: Mapping[str, str] = MappingProxyType({})


def environment_of(config: ModelConfig, folder: Path) -> Environment:
    """The environment for the model in a folder; raises ConfigError that says what is wrong with
    it."""
    named = config.parameter(EXECUTION_ENV)
    if not named:
        return Environment(python_of(config))
    field = f"parameters.{EXECUTION_ENV}"
    path = Path(named.replace(MODEL_DIRECTORY, str(folder.resolve()))).expanduser()
    if not path.exists():
        raise ConfigError(f"'{path}' is neither an archive nor a folder", field=field)
    root = path if path.is_dir() else unpacked(path)
    python = root / "bin" / "python"
    if not python.exists():
        raise ConfigError(f"'{path}' has no bin/python", field=field)
    _check(str(python), field)
    searched = os.pathsep.join((str(root / "bin"), os.environ.get("PATH", "")))
    libraries = [str(root / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    return Environment(
        str(python),
        {
            "PATH": searched,
            "CONDA_PREFIX": str(root),
            "LD_LIBRARY_PATH": os.pathsep.join(path for path in libraries if path),
        },
    )


def unpacked(archive: Path) -> Path:
    """The folder of an archive's contents, made once for each state of the archive; raises
    ConfigError for one that cannot be read, or would write elsewhere."""
    stat = archive.stat()
    mark = f"{archive.resolve()}\n{stat.st_mtime_ns}\n{stat.st_size}"
    folder = _cache() / f"env-{hashlib.sha256(mark.encode()).hexdigest()[:16]}"

    def fill(made: Path) -> None:
        _log.info("unpacking an environment", extra={"archive": str(archive)})
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(made, filter="data")
        except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise ConfigError(
                f"'{archive}' cannot be unpacked: {error}", field=f"parameters.{EXECUTION_ENV}"
            ) from error

    return _kept(folder, fill, f"parameters.{EXECUTION_ENV}")


def python_of(config: ModelConfig) -> str:
    """The interpreter for a model; raises ConfigError that says what is wrong with it."""
    if config.requirements:
        return str(_environment(config) / "bin" / "python")
    if config.python:
        python = _interpreter(config.python)
        _check(python)
        return python
    return sys.executable


def _interpreter(named: str) -> str:
    """An interpreter that is given by path, by name, or by the folder of its environment."""
    path = Path(named).expanduser()
    if path.is_dir():
        path = path / "bin" / "python"
    found = str(path) if path.is_file() else shutil.which(named)
    if found is None:
        raise ConfigError(f"'{named}' is neither an interpreter nor an environment", field="python")
    return found


def _check(python: str, field: str = "python") -> None:
    done = subprocess.run([python, "-c", _CHECK], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it does not run"])[-1]
        raise ConfigError(
            f"{python} cannot run a worker ({last}); it needs Python 3.11 or newer and: "
            f"pip install {' '.join(NEEDED)}",
            field=field,
        )


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "inferd/environments"


def _environment(config: ModelConfig) -> Path:
    """An environment with the requirements, made once and found by what is in it."""
    base = _interpreter(config.python) if config.python else sys.executable
    wanted = "\n".join((base, *NEEDED, *config.requirements))
    folder = _cache() / hashlib.sha256(wanted.encode()).hexdigest()[:16]

    def fill(made: Path) -> None:
        _log.info("making an environment", extra={"requirements": " ".join(config.requirements)})
        _run([base, "-m", "venv", str(made)])
        install = [str(made / "bin" / "python"), "-m", "pip", "install", "--no-input"]
        _run([*install, "--disable-pip-version-check", *NEEDED, *config.requirements])

    return _kept(folder, fill, "requirements")


def _kept(folder: Path, fill: Callable[[Path], None], field: str) -> Path:
    """A folder that is filled once, whole or not at all."""
    if (folder / "complete").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        fill(made)
        (made / "complete").touch()
        try:
            made.rename(folder)
        except OSError as error:
            if not (folder / "complete").is_file():
                raise ConfigError(
                    f"the environment cannot be kept as {folder}: {error.strerror}; remove what "
                    "is there",
                    field=field,
                ) from error
            shutil.rmtree(made)  # another server has made it meanwhile
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return folder


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise ConfigError(f"cannot be installed: {said}", field="requirements")
