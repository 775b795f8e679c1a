"""What a load is asked for, and what it gives: a LoadSpec in, a LoadedModel out, with the runners
that run its batches.

It refuses to know how a model is loaded (`model_loading.py`, `isolated_loading.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inferd.backends.base import ModelDescription
from inferd.batching.batcher import BatchRunner
from inferd.batching.queue import QueuedRequest
from inferd.batching.rate_limiter import Limits
from inferd.config.model import ModelConfig
from inferd.errors import InferdError
from inferd.repository.sent_files import SentFiles
from inferd.repository.source import Fingerprint
from inferd.serving.visits import MountedApp
from inferd.types.signature import Signature
from inferd.workers.culprits import Culprits


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """What it takes to load one version of a model."""

    name: str
    version: int
    path: Path
    backend: str
    config: ModelConfig
    threads: int
    labels: dict[str, tuple[str, ...]]
    trust: bool = False
    """Whether the model may run code when it is read; the server's word, never a repository's."""
    folder: Path | None = None
    """The model's own folder, of all versions, where it has one."""
    sent: SentFiles | None = None
    """Where the model lies, if it came with a request."""
    limits: Limits | None = None
    """What its instances need to run, where resources are limited."""
    fingerprint: Fingerprint = ()
    """What its files looked like when they were read."""


class ModelRunner(BatchRunner, Protocol):
    """What runs a model's batches."""

    @property
    def restarts(self) -> int:
        """How often a worker was started again."""

    @property
    def concurrency(self) -> int:
        """Batches that one instance may run at the same time."""

    def runs_now(self, rows: int) -> bool:
        """Whether `run_now` would run so many rows."""

    @property
    def trouble(self) -> str:
        """Why requests would fail now, if they would."""

    def close(self) -> None:
        """Give the memory back; blocks. Nothing may be queued or running."""

    def attach(
        self, look: Callable[[], None], fail: Callable[[InferdError], None],
        waits: Callable[[], bool],
    ) -> None:  # fmt: skip
        """Have it call `look` when a batch could be run that could not before, other than by the
        end of one, and `fail` when none could for a while; `waits` says whether there is one."""

    def took(self, item: QueuedRequest, parts: int) -> None:
        """So many parts of a request's stream have gone on to its client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """What loading gives: each of `runners` has a queue of its own, and the sessions of a model
    that keeps state are dealt out among them; a model of sequences has one for each instance, and
    one batcher in front of all; any other model has one."""

    description: ModelDescription
    runners: Sequence[ModelRunner]
    instance_count: int
    load_ns: int
    close: Callable[[], None] = lambda: None
    explain: Signature | None = None
    culprits: Culprits | None = None
    max_queue_delay_microseconds: int = 0
    app: MountedApp | None = None
    """The model's own HTTP routes, where it has any."""
    passive: bool = False
    """Whether none of its instances is given requests."""
    requests: bool = False
    """Whether the model looks at requests rather than at a batch."""
    ragged: frozenset[int] = frozenset()
    """Places of the inputs whose shapes may differ between those."""
    says_ready: Callable[[], bool] = lambda: True
    """What the model says of itself."""
    says_more: Callable[[], bool] = lambda: False
    """Whether it says more of answers than their tensors, so that each has to be its own."""
