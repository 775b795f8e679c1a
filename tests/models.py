"""Tiny ONNX models for tests, and the standard repository that holds one of each.

It refuses to know servers.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
Shape = Sequence[str | int]

ONNX_TYPES: dict[str, int] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
"""ONNX's element type for each of the 14 datatypes."""

SLOW_STEPS = 4000
"""Steps of the slow models: some 30 ms a run, whatever the number of rows."""

LABELS = ("cat", "dog", "bird")


def _tensor(name: str, datatype: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, ONNX_TYPES[datatype], list(shape))


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, Array] | None = None,
) -> bytes:
    held = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), held)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _mlp_weights() -> dict[str, Array]:
    rng = np.random.default_rng(7)
    return {
        "w0": rng.standard_normal((16, 8)).astype(np.float32),
        "b0": rng.standard_normal(8).astype(np.float32),
        "w1": rng.standard_normal((8, 3)).astype(np.float32),
        "b1": rng.standard_normal(3).astype(np.float32),
    }


def mlp() -> bytes:
    """y FP32 [b,3], the softmax of two dense layers over x FP32 [b,16]."""
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h0"]),
        helper.make_node("Relu", ["h0"], ["h1"]),
        helper.make_node("Gemm", ["h1", "w1", "b1"], ["h2"]),
        helper.make_node("Softmax", ["h2"], ["y"], axis=1),
    ]
    inputs, outputs = [_tensor("x", "FP32", ("b", 16))], [_tensor("y", "FP32", ("b", 3))]
    return _model(nodes, inputs, outputs, _mlp_weights())


def mlp_answer(x: Array) -> Array:
    """What `mlp` gives for x."""
    w = _mlp_weights()
    logits = np.maximum(x @ w["w0"] + w["b0"], 0) @ w["w1"] + w["b1"]
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    answer: Array = raised / raised.sum(axis=1, keepdims=True)
    return answer


def identity(datatype: str = "FP32", shape: Shape = ("b", 4)) -> bytes:
    """y is x."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return _model([node], [_tensor("x", datatype, shape)], [_tensor("y", datatype, shape)])


def add() -> bytes:
    """sum is a + b and difference a - b, FP32 [b,4]."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
    ]
    shape = ("n", 4)
    inputs = [_tensor("a", "FP32", shape), _tensor("b", "FP32", shape)]
    outputs = [_tensor("sum", "FP32", shape), _tensor("difference", "FP32", shape)]
    return _model(nodes, inputs, outputs)


def _table() -> Array:
    return np.arange(30, dtype=np.float32).reshape(10, 3)


def gather() -> bytes:
    """rows FP32 [b,2,3] of a table of ten, by ids INT64 [b,2]: an id of 10 fails."""
    node = helper.make_node("Gather", ["table", "ids"], ["rows"])
    inputs = [_tensor("ids", "INT64", ("b", 2))]
    outputs = [_tensor("rows", "FP32", ("b", 2, 3))]
    return _model([node], inputs, outputs, {"table": _table()})


def gather_answer(ids: Array) -> Array:
    """What `gather` gives for good ids."""
    return _table()[ids]


def _slow_zero() -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Nodes that compute `zero`, a scalar 0, in SLOW_STEPS steps."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state_in", "m"], ["state_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_in", TensorProto.FLOAT, [64, 64]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, [64, 64]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["steps", "go", "m"], ["end"], body=body),
        helper.make_node("ReduceMax", ["end"], ["one"], keepdims=0),
        helper.make_node("Sub", ["one", "one"], ["zero"]),
    ]
    held: dict[str, Array] = {
        "m": np.eye(64, dtype=np.float32),
        "steps": np.array(SLOW_STEPS, np.int64),
        "go": np.array(True),
    }
    return nodes, held


def slow() -> bytes:
    """y is x, FP32 [b,1], after some 30 ms."""
    nodes, held = _slow_zero()
    nodes.append(helper.make_node("Add", ["x", "zero"], ["y"]))
    inputs, outputs = [_tensor("x", "FP32", ("b", 1))], [_tensor("y", "FP32", ("b", 1))]
    return _model(nodes, inputs, outputs, held)


def slow_gather() -> bytes:
    """`gather`, after some 30 ms."""
    nodes, held = _slow_zero()
    nodes.append(helper.make_node("Gather", ["table", "ids"], ["found"]))
    nodes.append(helper.make_node("Add", ["found", "zero"], ["rows"]))
    inputs = [_tensor("ids", "INT64", ("b", 2))]
    outputs = [_tensor("rows", "FP32", ("b", 2, 3))]
    return _model(nodes, inputs, outputs, {**held, "table": _table()})


def write_model(
    root: Path,
    name: str,
    model: bytes,
    config: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    version: int = 1,
) -> Path:
    """Write `root/name/version/model.onnx`, config.yaml (JSON is YAML) and files beside it."""
    folder = root / name
    (folder / str(version)).mkdir(parents=True, exist_ok=True)
    (folder / str(version) / "model.onnx").write_bytes(model)
    if config is not None:
        (folder / "config.yaml").write_text(json.dumps(config))
    for path, text in (files or {}).items():
        (folder / path).write_text(text)
    return folder


def write_standard_repository(root: Path) -> Path:
    """One of each model:

    mlp (at most 8 rows), identity_<datatype> [b,4], free_<datatype> [b,n], add, gather (at most 16
    rows), slow and slow_gather (at most 64 rows), waiting_gather (waits for 32 rows), fixed (FP32
    [2,3], no batching), labels (FP32 [b,3] with names for its classes), versions (1 and 2).
    """
    write_model(root, "mlp", mlp(), {"max_batch_size": 8})
    for datatype in ONNX_TYPES:
        name = datatype.lower()
        write_model(root, f"identity_{name}", identity(datatype), {"max_batch_size": 64})
        free = identity(datatype, ("b", "n"))
        write_model(root, f"free_{name}", free, {"max_batch_size": 64})
    write_model(root, "add", add(), {"max_batch_size": 64})
    write_model(root, "gather", gather(), {"max_batch_size": 16})
    write_model(root, "slow", slow(), {"max_batch_size": 64})
    write_model(root, "slow_gather", slow_gather(), {"max_batch_size": 64})
    waiting = {"preferred_batch_size": [32], "max_queue_delay_microseconds": 3_000_000}
    config = {"max_batch_size": 32, "dynamic_batching": waiting}
    write_model(root, "waiting_gather", gather(), config)
    write_model(root, "fixed", identity("FP32", (2, 3)), {"max_batch_size": 0})
    output = {"name": "y", "data_type": "TYPE_FP32", "dims": [3], "label_filename": "labels.txt"}
    labels = {"max_batch_size": 8, "output": [output]}
    files = {"labels.txt": "\n".join(LABELS)}
    write_model(root, "labels", identity("FP32", ("b", 3)), labels, files)
    both: dict[str, Any] = {"version_policy": {"all": {}}}
    for version in (1, 2):
        write_model(root, "versions", identity(), both, version=version)
    return root
