"""One instance of a model of sequences, and the batches that it runs. Pure but for its runner."""

from collections import deque
from typing import Protocol

import numpy as np

from inferd.batching.batch import Batch
from inferd.batching.batcher import BatchRunner
from inferd.batching.queue import QueuedRequest
from inferd.batching.sequences.filling import Column
from inferd.batching.sequences.sequence import Sequence
from inferd.batching.sequences.strategy import Strategy
from inferd.types.tensor import Array


class SequenceRunner(BatchRunner, Protocol):
    """What runs the batches of one instance."""

    @property
    def restarts(self) -> int:
        """How often it has lost its memory."""


class Instance:
    """One instance: what it runs with, what may run on it, what is to be run again."""

    def __init__(self, index: int, runner: SequenceRunner, strategy: Strategy) -> None:
        self.index = index
        self.runner = runner
        self.strategy = strategy
        self.running = 0
        self.restarts = runner.restarts
        self.again: deque[tuple[list[Sequence], bool]] = deque()
        """Sequences whose requests ran in a batch that failed, and whether nothing may run beside
        them now."""

    @property
    def free(self) -> bool:
        """Whether a batch may start now."""
        exclusive = self.strategy.exclusive and self.running
        return not exclusive and self.runner.available()


class SequenceBatch(Batch):
    """A batch of sequences: `items` are their requests, and a request of nobody's for each row
    without one. `columns` are its inputs."""

    __slots__ = ("columns_", "instance", "sequences")

    def __init__(
        self, items: list[QueuedRequest], sequences: list[Sequence | None], instance: Instance,
        columns: list[Column],
    ) -> None:  # fmt: skip
        super().__init__(items, len(items))
        self.sequences = sequences
        self.instance = instance
        self.columns_ = columns

    def columns(self) -> list[Column]:
        """See Batch."""
        return self.columns_

    def merge(self) -> list[Array]:
        """See Batch."""
        return [c[0] if len(c) == 1 else np.concatenate(c) for c in self.columns_]
