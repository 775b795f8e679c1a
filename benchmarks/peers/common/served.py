"""The model under test and its settings, as the peers' server files read them.

The benchmark tool starts each peer with these environment variables:
BENCH_MODEL (path of the ONNX file), BENCH_THREADS, BENCH_PORT and BENCH_SETTINGS (JSON).
"""

import json
import os
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

PORT = int(os.environ["BENCH_PORT"])
SETTINGS: dict[str, Any] = json.loads(os.environ["BENCH_SETTINGS"])


class ServedModel:
    """One ONNX Runtime session with one input and one output."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = SETTINGS.get("threads") or int(os.environ["BENCH_THREADS"])
        options.inter_op_num_threads = 1
        if not SETTINGS["spin"]:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        source = self._session.get_inputs()[0]
        self._input = source.name
        self.dtype = np.float32 if source.type == "tensor(float)" else np.int64

    def run(self, rows: Any) -> NDArray[np.float32]:
        """Answers a batch: a list of rows, or an array with the batch first."""
        array = np.asarray(rows, dtype=self.dtype)
        output: NDArray[np.float32] = self._session.run(None, {self._input: array})[0]
        return output
