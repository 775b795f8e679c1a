"""Virtual environments of the peers, one each, outside the repository."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

CACHE_VARIABLE = "INFERD_BENCH_CACHE"
VERSIONS_CODE = (
    "import json, platform; from importlib.metadata import distributions; "
    "print(json.dumps({'python': platform.python_version()} | "
    "{d.name.lower(): d.version for d in distributions()}))"
)


class InstallError(Exception):
    """A peer's packages could not be installed."""


def cache_folder() -> Path:
    """Gives the folder for environments, models and logs."""
    default = Path.home() / ".cache" / "inferd" / "benchmarks"
    return Path(os.environ.get(CACHE_VARIABLE, default)).expanduser()


def ensure_venv(name: str, requirements: Path, cache: Path, console: Console) -> Path:
    """Installs a peer's pinned requirements, unless done before; gives its Python."""
    folder = cache / "venvs" / name
    python = folder / "bin" / "python"
    stamp = folder / "installed.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    with console.status(f"installing {name} into {folder}"):
        shutil.rmtree(folder, ignore_errors=True)
        run_installer([sys.executable, "-m", "venv", str(folder)], name)
        install = ["-m", "pip", "install", "--disable-pip-version-check", "-q", "-r"]
        run_installer([str(python), *install, str(requirements)], name)
    stamp.write_text(wanted)
    console.print(f"installed {name}")
    return python


def run_installer(command: list[str], name: str, **options: Any) -> None:
    """Runs one step (`options` are subprocess.run's); raises with what it printed last if it
    fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise InstallError(f"{name} could not be installed:\n{tail}")


def installed_versions(python: Path) -> dict[str, str]:
    """Asks an environment for its Python and all its packages."""
    done = subprocess.run(
        [str(python), "-c", VERSIONS_CODE], capture_output=True, text=True, check=True
    )
    versions: dict[str, str] = json.loads(done.stdout)
    return dict(sorted(versions.items()))
