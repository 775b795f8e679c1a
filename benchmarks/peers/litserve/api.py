"""LitServe: decode, batch, predict, unbatch, encode."""

from typing import Any

import litserve
import numpy as np
from numpy.typing import NDArray
from served import PORT, SETTINGS, ServedModel


class InferenceApi(litserve.LitAPI):  # type: ignore[misc]
    """Answers `{"data": [...]}` with the model's output row."""

    def setup(self, device: str) -> None:
        """Loads the model in the worker process."""
        self._model = ServedModel()

    def decode_request(self, request: dict[str, Any]) -> list[float]:
        """Takes the row out of one request."""
        row: list[float] = request["data"]
        return row

    def batch(self, inputs: list[list[float]]) -> NDArray[Any]:
        """Joins rows into one array."""
        return np.array(inputs, dtype=self._model.dtype)

    def predict(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Answers a batch."""
        return self._model.run(x)

    def unbatch(self, output: NDArray[np.float32]) -> list[list[float]]:
        """Splits the answer into rows."""
        rows: list[list[float]] = output.tolist()
        return rows

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """Wraps one row."""
        return {"data": output}


if __name__ == "__main__":
    api = InferenceApi(
        max_batch_size=SETTINGS["max_batch_size"],
        batch_timeout=SETTINGS["batch_timeout"],
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=SETTINGS["workers"],
        fast_queue=SETTINGS["fast_queue"],
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=PORT,
        num_api_servers=SETTINGS["api_servers"],
        log_level="warning",
        generate_client_file=False,
    )
