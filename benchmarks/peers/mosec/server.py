"""mosec: one JSON request in, one row of the model's output out."""

from typing import Any

import msgspec
import numpy as np
from mosec import Server, ValidationError, Worker
from served import SETTINGS, ServedModel


class Features(msgspec.Struct):
    """The body `{"data": [...]}` of a model of floats."""

    data: list[float]


class Tokens(msgspec.Struct):
    """The body `{"data": [...]}` of a model of token ids."""

    data: list[int]


class Inference(Worker):
    """Decodes with msgspec (faster than the default json), batches, answers."""

    def __init__(self) -> None:
        super().__init__()
        self._model = ServedModel()
        body = Features if self._model.dtype is np.float32 else Tokens
        self._decoder = msgspec.json.Decoder(body)
        self._encoder = msgspec.json.Encoder()

    def deserialize(self, data: bytes) -> Any:
        """Reads one request body."""
        try:
            return self._decoder.decode(data).data
        except msgspec.DecodeError as error:
            raise ValidationError(str(error)) from error

    def forward(self, data: list[Any]) -> list[list[float]]:
        """Answers a batch of requests."""
        rows: list[list[float]] = self._model.run(data).tolist()
        return rows

    def serialize(self, data: Any) -> bytes:
        """Writes one response body."""
        return self._encoder.encode({"data": data})


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Inference,
        num=SETTINGS["workers"],
        max_batch_size=SETTINGS["max_batch_size"],
        max_wait_time=SETTINGS["max_wait_ms"],
    )
    server.run()
