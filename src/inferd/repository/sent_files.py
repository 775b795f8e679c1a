"""Files of a model that came with a request, in a private folder for as long as somebody holds it.

What a request may not do stands here: leave its folder, or bring code. It refuses to know how the
request came, and to load the model.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from inferd.config.model import ModelConfig
from inferd.errors import InvalidRequest
from inferd.repository.model_config import check_name
from inferd.repository.model_folder import described_source
from inferd.repository.signs import content
from inferd.repository.source import ModelSource

_PREFIX: Final = "inferd-model-"
_HELD: Final = ".held"
"""How the names of folders begin, and end once they are locked, which they are for as long as their
process is there: by that it is seen, from any container, that one has been left behind."""

MOST_FILES = 1000
MOST_DEPTH = 16
MOST_NAME = 255
"""Files of one request, folders within one another, characters of one name."""

ONLY_DATA = frozenset(
    {"onnx", "onnxruntime", "openvino", "xgboost", "lightgbm", "catboost", "sklearn"}
)
"""Backends whose files are no programs, apart from pickles."""


class SentFiles:
    """A folder of versions, made anew; it is its holders' to remove."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        """Writes files by their paths, `<version>/<name>`; blocks. Raises InvalidRequest, and then
        nothing is left."""
        if len(files) > MOST_FILES:
            raise InvalidRequest(f"a model may have {MOST_FILES} files, not {len(files)}")
        paths = {_checked(path): data for path, data in files.items()}
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock: int | None = None
        self._holders = 0
        with suppress(OSError):  # a file system may have no locks
            self._lock = _locked(self.folder)
            self.folder = self.folder.rename(f"{self.folder}{_HELD}")
        try:
            for path, data in paths.items():
                file = self.folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("xb") as stream:
                    stream.write(data)
        except OSError as error:
            self.remove()
            raise InvalidRequest(f"the files cannot be written: {error.strerror}") from error

    def hold(self) -> None:
        """One more has use for them."""
        self._holders += 1

    def let_go(self) -> bool:
        """One less has; whether that was the last."""
        self._holders -= 1
        return self._holders <= 0

    def remove(self) -> None:
        """Blocks."""
        shutil.rmtree(self.folder, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def source(self, name: str, config: ModelConfig, trust: bool) -> ModelSource:
        """The model that they are; blocks. Raises ConfigError, or InvalidRequest for code where
        `trust` does not allow it."""
        check_name(config, name)
        source = described_source(self.folder, name, config, sent=self)
        pickled = any(content(v.path) in ("pickle", "packed") for v in source.versions.values())
        if (pickled or source.backend not in ONLY_DATA) and not trust:
            what = "a pickle, which" if pickled else f"of backend '{source.backend}', whose files"
            raise InvalidRequest(
                f"model '{name}' came with the request and is {what} may be a program: code from "
                "the network runs only where the server was started with --trust"
            )
        return source


def remove_forsaken() -> None:
    """Remove the folders of this user whose processes have ended without; blocks."""
    with suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*{_HELD}"):
            with suppress(OSError):  # it is gone, or somebody else's, or held
                if folder.lstat().st_uid == os.getuid():
                    lock = _locked(folder)
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)


def _locked(folder: Path) -> int:
    """A folder's file descriptor, with a lock that goes with it; raises OSError where another has
    one."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _checked(path: str) -> PurePosixPath:
    """A path within the folder; raises InvalidRequest."""
    version, *names = path.split("/")
    numbered = version.isascii() and version.isdigit() and version[0] != "0" and len(version) < 19
    plain = all(
        name not in ("", ".", "..") and name.isprintable() and "\\" not in name
        and len(name.encode()) <= MOST_NAME
        for name in names
    )  # fmt: skip
    if not (numbered and names and plain and len(names) <= MOST_DEPTH):
        raise InvalidRequest(
            f"'{path[:100]}' is no file of a model; expected <version>/<file-name>, as in "
            "1/model.onnx"
        )
    return PurePosixPath(version, *names)
