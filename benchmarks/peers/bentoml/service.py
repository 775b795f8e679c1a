"""BentoML: one service with a batchable endpoint."""

import bentoml
import numpy as np
from numpy.typing import NDArray
from served import SETTINGS, ServedModel


@bentoml.service(workers=SETTINGS["workers"], traffic={"timeout": 60})
class Inference:
    """Answers `{"data": [[...]]}`, a list of rows, with the model's output rows."""

    def __init__(self) -> None:
        self._model = ServedModel()

    @bentoml.api(
        batchable=True,
        max_batch_size=SETTINGS["max_batch_size"],
        max_latency_ms=SETTINGS["max_latency_ms"],
    )
    def predict(self, data: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        """Answers a batch."""
        rows: NDArray[np.float32] = self._model.run(data)
        return rows
