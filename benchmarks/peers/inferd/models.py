"""inferd: models written in Python, each served from a worker process."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from served import SETTINGS, ServedModel

import inferd

FLOATS = 1 << 20


class Mlp(inferd.Model, name="python-mlp", max_batch_size=SETTINGS["max_batch_size"]):
    """The same few lines over ONNX Runtime that the peers have."""

    def load(self) -> None:
        """Loads the model in the worker process."""
        self._model = ServedModel()

    def predict(
        self, x: Annotated[NDArray[np.float32], inferd.Shape(None, 16)]
    ) -> NDArray[np.float32]:
        """Answers a batch."""
        return self._model.run(x)


class Echo(inferd.Model, name="tensor-4mb"):
    """A tensor in and the same tensor back."""

    def predict(
        self, x: Annotated[NDArray[np.float32], inferd.Shape(FLOATS)]
    ) -> NDArray[np.float32]:
        """Answers with what it was given."""
        return x
