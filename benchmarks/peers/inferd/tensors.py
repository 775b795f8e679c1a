"""inferd: models that only move tensors, to a worker process and back."""

import mmap
from collections.abc import AsyncIterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

import inferd

FLOATS = 1 << 20
PART_FLOATS = 1 << 12
PARTS = 1 << 10


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


class LargeEcho(inferd.Model, name="grpc-16mb"):
    """A tensor of 16 MB in and the same tensor out."""

    def predict(
        self, x: Annotated[NDArray[np.float32], inferd.Shape(4 * FLOATS)]
    ) -> NDArray[np.float32]:
        """Answers with what it was given."""
        return x


class Parts(inferd.Model, name="parts", max_concurrency=1024):
    """A stream of far more than anybody keeps: 16 KiB, a thousand times."""

    async def predict(
        self, x: Annotated[NDArray[np.float32], inferd.Shape(PART_FLOATS)]
    ) -> AsyncIterator[NDArray[np.float32]]:
        """Answers with what it was given, again and again."""
        for _ in range(PARTS):
            yield x
