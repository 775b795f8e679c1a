"""The Python that a model's workers run with: the server's, one that the model names, or one made
for its requirements and kept. It blocks.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from inferd.config.model import ModelConfig
from inferd.errors import ConfigError

_log = logging.getLogger("inferd.worker")

NEEDED: Final = ("numpy>=1.26", "msgspec>=0.19")
"""What a worker itself needs, apart from what the model needs."""

_CHECK: Final = "import sys, numpy, msgspec; assert sys.version_info >= (3, 11), sys.version"


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


def _check(python: str) -> None:
    done = subprocess.run([python, "-c", _CHECK], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it does not run"])[-1]
        raise ConfigError(
            f"{python} cannot run a worker ({last}); it needs Python 3.11 or newer and: "
            f"pip install {' '.join(NEEDED)}",
            field="python",
        )


def _environment(config: ModelConfig) -> Path:
    """An environment with the requirements, made once and found by what is in it."""
    base = _interpreter(config.python) if config.python else sys.executable
    wanted = "\n".join((base, *NEEDED, *config.requirements))
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "inferd/environments"
    folder = cache / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    if (folder / "complete").is_file():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    _log.info("making an environment", extra={"requirements": " ".join(config.requirements)})
    made = Path(tempfile.mkdtemp(dir=cache))
    try:
        _run([base, "-m", "venv", str(made)])
        install = [str(made / "bin" / "python"), "-m", "pip", "install", "--no-input"]
        _run([*install, "--disable-pip-version-check", *NEEDED, *config.requirements])
        (made / "complete").touch()
        try:
            made.rename(folder)
        except OSError as error:
            if not (folder / "complete").is_file():
                raise ConfigError(
                    f"the environment cannot be kept as {folder}: {error.strerror}; remove what "
                    "is there",
                    field="requirements",
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
