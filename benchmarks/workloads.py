"""What is asked of the servers: the model, the requests and the answers that are right."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.frameworks.table import FEATURES, FRAMEWORKS, WIDTH, Framework
from benchmarks.models import VOCABULARY

SAMPLES = 32
SEED = 7
PEERS = ("inferd", "mosec", "mlserver", "litserve", "bentoml", "ray")


@dataclass(frozen=True)
class Workload:
    """One model and how servers are told to run it.

    `model` is the file's name in the models' table, where it is not the workload's; `source` a
    Python model that inferd serves in its place. `config` is what inferd is told of the model.
    `servers` are compared, at so many `connections` where that is not for the command line to say.
    A request holds one row, or `request_rows`. An answer may be off by `tolerance`, as a part of
    the largest value. `trust` is what inferd has to be told to read the model. `grpc` is whether
    it is asked over gRPC, `beside` what inferd serves besides the model.
    """

    name: str
    input_name: str
    datatype: str
    width: int
    max_batch: int
    threads: int
    model: str = ""
    source: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    servers: tuple[str, ...] = PEERS
    connections: tuple[int, ...] = ()
    request_rows: int = 0
    tolerance: float = 1e-3
    trust: bool = False
    grpc: bool = False
    beside: str = ""

    @property
    def model_name(self) -> str:
        """The model's name in the table of models."""
        return self.model or self.name

    def rows(self) -> NDArray[np.generic]:
        """Gives the different requests, one row each or several, the same in every run."""
        random = np.random.default_rng(SEED)
        shape = (SAMPLES, *((self.request_rows,) if self.request_rows else ()), self.width)
        if self.datatype == "INT64":
            return random.integers(0, VOCABULARY, shape)
        return random.normal(size=shape).round(6)


@dataclass(frozen=True)
class Task:
    """A workload with its model file and the right answer to each request: what ONNX Runtime says
    here, or for a model of another framework what it has said and is kept in `answers`."""

    workload: Workload
    model: Path
    answers: Path | None = None

    @cached_property
    def expected(self) -> NDArray[np.generic]:
        """The right answers, a row for each request."""
        if self.answers is not None:
            return np.load(self.answers).reshape(SAMPLES, -1)
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


ONE_RUNTIME = {"backend": "onnxruntime"}
"""Against peers inferd uses the runtime that they use, and not what it would choose."""

MLP = Workload("mlp", "x", "FP32", width=16, max_batch=64, threads=1, config=ONE_RUNTIME)
PYTHON_MLP = Workload(
    "python-mlp", "x", "FP32", width=16, max_batch=64, threads=1, model="mlp",
    source="models.py:Mlp", connections=(32,),
)  # fmt: skip
ENCODER = Workload(
    "encoder", "ids", "INT64", width=64, max_batch=32, threads=2, config=ONE_RUNTIME
)  # fmt: skip
ENCODER_OPENVINO = Workload(
    "encoder-openvino", "ids", "INT64", width=64, max_batch=64, threads=2, model="encoder",
    servers=("inferd", "inferd-onnxruntime", "inferd-f32", "inferd-openvino"),
    connections=(32,), tolerance=0.03,
)  # fmt: skip
WIDE = Workload("wide", "x", "FP32", width=4096, max_batch=64, threads=1, servers=("inferd",))
TREES = Workload(
    "trees", "input", "FP32", width=FEATURES, max_batch=64, threads=1, model="xgboost",
    servers=("inferd", "mlserver-xgboost"), connections=(32,),
)  # fmt: skip
TENSOR = Workload(
    "tensor-4mb", "x", "FP32", width=1 << 20, max_batch=0, threads=1,
    source="models.py:Echo", servers=("inferd",), connections=(1, 2, 4),
)  # fmt: skip

GRPC_MLP = Workload(
    "grpc-mlp", "x", "FP32", width=16, max_batch=64, threads=1, model="mlp", config=ONE_RUNTIME,
    servers=("inferd", "triton", "mlserver", "grpcio-threads", "grpcio-aio"), grpc=True,
)  # fmt: skip
GRPC_TENSOR = Workload(
    "grpc-16mb", "x", "FP32", width=1 << 22, max_batch=0, threads=1,
    source="tensors.py:LargeEcho", servers=("inferd",), connections=(1,), grpc=True,
)  # fmt: skip
PARTS = Workload("parts", "x", "FP32", width=1 << 12, max_batch=0, threads=1)
GRPC_STREAMS = Workload(
    "grpc-slow-streams", "x", "FP32", width=16, max_batch=64, threads=1, model="mlp",
    servers=("inferd",), grpc=True, beside="tensors.py:Parts",
)  # fmt: skip

OFFLINE = "offline-"


def of_framework(framework: Framework) -> Workload:
    """A framework's model served, in requests and batches that are large enough for what the
    network costs to be a small part: it is the framework that is measured."""
    rows, connections = (1024, (4, 8)) if framework.trees else (64, (16, 32))
    told = ONE_RUNTIME if framework.name == "onnxruntime" else {}
    return Workload(
        f"{OFFLINE}{framework.name}", framework.input_name, framework.datatype,
        width=FEATURES if framework.trees else WIDTH, max_batch=MOST_ROWS[framework.trees],
        threads=2, model=framework.name, servers=("inferd",), connections=connections,
        request_rows=rows, config={"max_batch_size": MOST_ROWS[framework.trees], **told},
        tolerance=0.03 if framework.rounds else 1e-3, trust=framework.trust,
    )  # fmt: skip


MOST_ROWS = {False: 1024, True: 2048}
"""Of a batch: of networks, and of trees."""

OWN = {f"{OFFLINE}{name}": of_framework(framework) for name, framework in FRAMEWORKS.items()}
"""Each framework served, to be compared with its own best."""

SERVED = {
    workload.name: workload
    for workload in (
        MLP, PYTHON_MLP, ENCODER, ENCODER_OPENVINO, WIDE, TREES, *OWN.values(),
    )
}  # fmt: skip
"""Workloads measured with a steady number of connections."""

GRPC = {workload.name: workload for workload in (GRPC_MLP, GRPC_TENSOR, GRPC_STREAMS)}
"""Workloads measured over gRPC."""

SPECIAL = ("offline-encoder", TENSOR.name, "idle", "overload")
"""Those that are measured in ways of their own, of inferd only."""

ALL_NAMES = (*SERVED, *SPECIAL, *GRPC)
"""Everything that `--workloads` knows."""

GROUPS = {"offline": (f"{OFFLINE}encoder", *OWN), "grpc": tuple(GRPC)}
"""Names for several workloads."""
