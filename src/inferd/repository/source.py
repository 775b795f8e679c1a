"""What is known of a model on disk before it is loaded. It refuses to look for one."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from inferd.config.model import ModelConfig

if TYPE_CHECKING:
    from inferd.repository.sent_files import SentFiles

Fingerprint = tuple[tuple[str, int, int], ...]
"""Name, modification time in nanoseconds and size of each file that makes up a version."""


@dataclass(frozen=True, slots=True)
class VersionSource:
    """One version on disk: the file or folder to load and what it looked like.

    Of a Python model `path` is `file.py:Class`.
    """

    path: Path
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model on disk. `error` says why it cannot be served; then `versions` may be empty. `folder`
    holds all versions, and what goes with the configuration, where the model is no lone file."""

    name: str
    config: ModelConfig = field(default_factory=ModelConfig)
    backend: str = ""
    versions: dict[int, VersionSource] = field(default_factory=dict)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    error: str = ""
    folder: Path | None = None
    sent: "SentFiles | None" = None
    """Where it lies, if it came with a request."""


def fingerprint(files: Iterable[Path]) -> Fingerprint:
    """What files look like now; those that are gone between listing and looking are left out: the
    next look sees it."""
    marks = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue
        marks.append((str(file), stat.st_mtime_ns, stat.st_size))
    return tuple(marks)
