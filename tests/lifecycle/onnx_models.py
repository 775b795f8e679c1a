"""Small ONNX models for tests, and a model repository that holds them.

It refuses to know servers.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES: dict[str, int] = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32, "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING, "BF16": TensorProto.BFLOAT16,
}  # fmt: skip
"""ONNX's element type for each datatype of the protocol."""

Shape = Sequence[str | int]


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: Mapping[str, "np.ndarray[Any, Any]"] | None = None,
) -> bytes:
    held = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _tensor(name: str, datatype: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[datatype], list(shape))


def identity(datatype: str = "FP32", shape: Shape = ("n", 4)) -> bytes:
    """OUTPUT0 is INPUT0."""
    node = helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])
    return _model(
        [node], [_tensor("INPUT0", datatype, shape)], [_tensor("OUTPUT0", datatype, shape)]
    )


def add_sub(datatype: str = "FP32", shape: Shape = ("n", 16)) -> bytes:
    """OUTPUT0 is INPUT0 + INPUT1, OUTPUT1 is INPUT0 - INPUT1."""
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    inputs = [_tensor(f"INPUT{i}", datatype, shape) for i in range(2)]
    outputs = [_tensor(f"OUTPUT{i}", datatype, shape) for i in range(2)]
    return _model(nodes, inputs, outputs)


def constant(value: float) -> bytes:
    """OUTPUT0 is INPUT0 * 0 + value: it says which version answered."""
    nodes = [
        helper.make_node("Mul", ["INPUT0", "zero"], ["none"]),
        helper.make_node("Add", ["none", "value"], ["OUTPUT0"]),
    ]
    held = {"zero": np.zeros(1, np.float32), "value": np.full(1, value, np.float32)}
    shape = ("n", 1)
    return _model(
        nodes, [_tensor("INPUT0", "FP32", shape)], [_tensor("OUTPUT0", "FP32", shape)], held
    )


def weights(megabytes: int) -> bytes:
    """A model that holds so many megabytes of weights: OUTPUT0 is a row sum of a product."""
    columns = megabytes * 1024 * 1024 // 4 // 256
    held = {"w": np.ones((256, columns), np.float32), "axes": np.array([1], np.int64)}
    nodes = [
        helper.make_node("MatMul", ["INPUT0", "w"], ["product"]),
        helper.make_node("ReduceSum", ["product", "axes"], ["OUTPUT0"], keepdims=1),
    ]
    return _model(
        nodes, [_tensor("INPUT0", "FP32", ("n", 256))], [_tensor("OUTPUT0", "FP32", ("n", 1))],
        held,
    )  # fmt: skip


def lookup(rows: int = 10) -> bytes:
    """OUTPUT0 is INPUT0, looked up in a table: a number of `rows` or more fails the run."""
    held = {"table": np.arange(rows, dtype=np.float32)}
    node = helper.make_node("Gather", ["table", "INPUT0"], ["OUTPUT0"])
    shape = ("n", 1)
    return _model(
        [node], [_tensor("INPUT0", "INT64", shape)], [_tensor("OUTPUT0", "FP32", shape)], held
    )


STEPS_PER_MS = 400
"""Steps of `work` that take about a millisecond on the machine where this was written."""

BASE_STEPS = STEPS_PER_MS
"""Steps of `work` that every run makes; more than the server runs on its event loop."""


def work(base_steps: int = BASE_STEPS) -> bytes:
    """OUTPUT0 is INPUT0, after `base_steps` and as many more steps as the largest INPUT0 says."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state_in", "m"], ["product"]),
            helper.make_node("Identity", ["product"], ["state_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_in", TensorProto.FLOAT, [48, 48]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, [48, 48]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["INPUT0"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["asked"], to=TensorProto.INT64),
        helper.make_node("Add", ["asked", "base"], ["steps"]),
        helper.make_node("Loop", ["steps", "go", "m"], ["end"], body=body),
        helper.make_node("ReduceMax", ["end"], ["number"], keepdims=0),
        helper.make_node("Mul", ["number", "zero"], ["none"]),
        helper.make_node("Add", ["INPUT0", "none"], ["OUTPUT0"]),
    ]
    held = {
        "m": np.eye(48, dtype=np.float32), "base": np.array(base_steps, np.int64),
        "go": np.array(True), "zero": np.array(0, np.float32),
    }  # fmt: skip
    shape = ("n", 1)
    return _model(
        nodes, [_tensor("INPUT0", "FP32", shape)], [_tensor("OUTPUT0", "FP32", shape)], held
    )


class Repository:
    """A model repository on disk; files appear and change in one step, as a deployment's do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        name: str,
        model: bytes,
        version: int = 1,
        config: Mapping[str, Any] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Write a version, and the configuration (YAML is a superset of JSON) and other files."""
        for path, text in (files or {}).items():
            self._write(self.root / name / path, text.encode())
        if config is not None:
            self.configure(name, config)
        staged = self.root.parent / f".staged-{self.root.name}-{name}-{version}"
        staged.mkdir()
        (staged / "model.onnx").write_bytes(model)
        (self.root / name).mkdir(exist_ok=True)
        staged.rename(self.root / name / str(version))

    def configure(self, name: str, config: Mapping[str, Any]) -> None:
        """Write or change a model's configuration."""
        self._write(self.root / name / "config.yaml", json.dumps(config).encode())

    def replace(self, name: str, model: bytes, version: int = 1) -> None:
        """Change a version's file."""
        self._write(self.root / name / str(version) / "model.onnx", model)

    def remove(self, name: str, version: int | None = None) -> None:
        """Take a version, or the whole model, away."""
        path = self.root / name / (str(version) if version else "")
        path.rename(self.root.parent / f".removed-{name}-{version}-{os.urandom(4).hex()}")

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.staged")
        staged.write_bytes(data)
        staged.rename(path)
