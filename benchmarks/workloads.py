"""What is asked of the servers: the model, the requests and the answers that are right."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.models import VOCABULARY

SAMPLES = 32
SEED = 7


@dataclass(frozen=True)
class Workload:
    """One model and how servers are told to run it."""

    name: str
    input_name: str
    datatype: str
    width: int
    max_batch: int
    threads: int
    only_inferd: bool = False

    def rows(self) -> NDArray[np.generic]:
        """Gives the different requests, one row each, the same in every run."""
        random = np.random.default_rng(SEED)
        if self.datatype == "INT64":
            return random.integers(0, VOCABULARY, (SAMPLES, self.width))
        return random.normal(size=(SAMPLES, self.width)).round(6)


@dataclass(frozen=True)
class Task:
    """A workload with its model file and the right answer to each request."""

    workload: Workload
    model: Path

    @cached_property
    def expected(self) -> NDArray[np.float32]:
        """The answers of ONNX Runtime called directly."""
        return self.session(threads=1).run(None, self.feed(self.workload.rows()))[0]

    def session(self, threads: int) -> onnxruntime.InferenceSession:
        """Opens the model in this process."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(
            str(self.model), options, providers=["CPUExecutionProvider"]
        )

    def feed(self, rows: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        """Gives the session's input for some rows."""
        dtype = np.int64 if self.workload.datatype == "INT64" else np.float32
        return {self.workload.input_name: rows.astype(dtype)}


MLP = Workload("mlp", "x", "FP32", width=16, max_batch=64, threads=1)
ENCODER = Workload("encoder", "ids", "INT64", width=64, max_batch=32, threads=2)
WIDE = Workload("wide", "x", "FP32", width=4096, max_batch=64, threads=1, only_inferd=True)

SERVED = {workload.name: workload for workload in (MLP, ENCODER, WIDE)}
"""Workloads measured with a steady number of connections."""

ALL_NAMES = (*SERVED, "offline", "idle", "overload")
"""Everything that `--workloads` knows."""
