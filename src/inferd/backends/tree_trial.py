"""A file of trees is read first by a process that may fall: the readers of XGBoost, LightGBM and
CatBoost end the process that they run in when a file is damaged in the wrong place.

What no reader notices, such as one threshold for another, is not noticed here either: none of the
formats has a checksum.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from inferd.backends.rows import unreadable
from inferd.backends.tree_reader import FAILED
from inferd.errors import BackendError

READER = Path(__file__).with_name("tree_reader.py")
SECONDS = 30
SECONDS_FOR_EACH_MB = 1.0


def try_reading(name: str, framework: str, library: str, path: Path) -> None:
    """Raises BackendError for a file that cannot be read, or that ends or hangs whoever reads it.

    `library` is the framework's own, empty where it has to be imported.
    """
    # -P: the reader's neighbours are called like frameworks, and must not be found in their place.
    try:
        size = path.stat().st_size
    except OSError as error:
        raise unreadable(name, path, error) from error
    command = [sys.executable, "-P", str(READER), framework, library, str(path)]
    seconds = SECONDS + SECONDS_FOR_EACH_MB * size / 1e6
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    try:
        ended = subprocess.run(
            command, capture_output=True, timeout=seconds, env=environment, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BackendError(
            f"{name} has read {path.name} for {seconds:.0f} s without an end; is it damaged?"
        ) from error
    if not ended.returncode:
        return
    said = ended.stdout.decode(errors="replace").strip()
    if ended.returncode == FAILED:
        raise unreadable(name, path, BackendError(said))
    raise BackendError(
        f"{name} cannot load {path.name}: it is damaged, its reader ended with "
        f"{_how(ended.returncode)}{_last_words(ended.stderr)}"
    )


def _how(returncode: int) -> str:
    return signal.Signals(-returncode).name if returncode < 0 else f"status {returncode}"


def _last_words(stderr: bytes) -> str:
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return f" ({lines[-1][:200]})" if lines else ""
