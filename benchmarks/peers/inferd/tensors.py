"""inferd: models that only move a tensor (`benchmarks/worker_memory.py`)."""

import mmap
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

import inferd

FLOATS = 1 << 20


class Takes(inferd.Model):
    """A tensor in; the bytes of it that are not in shared memory out."""

    def predict(
        self, x: Annotated[NDArray[np.float32], inferd.Shape(FLOATS)]
    ) -> Annotated[NDArray[np.float32], inferd.Shape(1)]:
        """Looks where the bytes are."""
        owner: Any = x
        while isinstance(owner, np.ndarray | memoryview):
            owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
        return np.array([0 if isinstance(owner, mmap.mmap) else x.nbytes], np.float32)


class Gives(inferd.Model):
    """A number in, a tensor out that was made before."""

    def load(self) -> None:
        """Makes the tensor."""
        self._tensor = np.random.default_rng(1).normal(size=FLOATS).astype(np.float32)

    def predict(self, x: Annotated[NDArray[np.float32], inferd.Shape(1)]) -> NDArray[np.float32]:
        """Answers with the tensor."""
        return self._tensor


class Returns(inferd.Model):
    """A tensor in and the same tensor out."""

    def predict(
        self, x: Annotated[NDArray[np.float32], inferd.Shape(FLOATS)]
    ) -> NDArray[np.float32]:
        """Answers with what it was given."""
        return x
