"""Tiny ONNX models, made as the tests need them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES: dict[str, int] = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32, "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16, "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE, "BYTES": TensorProto.STRING,
}  # fmt: skip

Port = tuple[str, str, tuple[str | int, ...]]
"""Name, datatype and shape of an input or output; a word is a free dimension."""


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, **attributes)


def graph(
    nodes: list[onnx.NodeProto],
    inputs: list[Port],
    outputs: list[Port],
    **constants: "np.ndarray[Any, Any]",
) -> bytes:
    """A model as the bytes of its file."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TYPES[t], list(s)) for n, t, s in inputs],
        [helper.make_tensor_value_info(n, TYPES[t], list(s)) for n, t, s in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def identity(datatype: str = "FP32", shape: tuple[str | int, ...] = ("n", 4)) -> bytes:
    """y is x."""
    return graph(
        [node("Identity", ["x"], ["y"])], [("x", datatype, shape)], [("y", datatype, shape)]
    )


def add(value: float, columns: int = 2) -> bytes:
    """y is x + value: it says which version answered."""
    shape = ("n", columns)
    return graph(
        [node("Add", ["x", "value"], ["y"])],
        [("x", "FP32", shape)],
        [("y", "FP32", shape)],
        value=np.array(value, np.float32),
    )


def two_outputs() -> bytes:
    """sum is the row sums of x, whole is x as INT64."""
    return graph(
        [
            node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
            node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        ],
        [("x", "FP32", ("n", 4))],
        [("sum", "FP32", ("n", 1)), ("whole", "INT64", ("n", 4))],
        axes=np.array([1], np.int64),
    )


def wide(columns: int) -> bytes:
    """y is the one number of x, so many times."""
    return graph(
        [node("Mul", ["x", "ones"], ["y"])],
        [("x", "FP32", ("n", 1))],
        [("y", "FP32", ("n", columns))],
        ones=np.ones((1, columns), np.float32),
    )


def centred(datatype: str = "FP32", shape: tuple[str | int, ...] = ("n", 4)) -> bytes:
    """y is x less its mean over the first dimension: rows depend on each other."""
    return graph(
        [
            node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            node("Sub", ["x", "mean"], ["y"]),
        ],
        [("x", datatype, shape)],
        [("y", datatype, shape)],
    )


def running_sum(datatype: str = "FP32", shape: tuple[str | int, ...] = ("n", 4)) -> bytes:
    """y is the cumulative sum of x along its first dimension: it is a sequence, no batch."""
    return graph(
        [node("CumSum", ["x", "axis"], ["y"])],
        [("x", datatype, shape)],
        [("y", datatype, shape)],
        axis=np.array(0, np.int64),
    )


def ragged() -> bytes:
    """OUTPUT is INPUT, each element times the number of elements of its request, of which COUNT
    has one for each: so a request that is run with others' counts gets another answer."""
    return graph(
        [
            node("Cast", ["COUNT"], ["counts"], to=TensorProto.INT64),
            # Of each element the request it is of: how many requests have ended before it.
            node("CumSum", ["counts", "axis"], ["ends"]),
            node("Unsqueeze", ["ends", "columns"], ["ends_2"]),
            node("Size", ["INPUT"], ["size"]),
            node("Range", ["zero", "size", "one"], ["places"]),
            node("GreaterOrEqual", ["places", "ends_2"], ["ended"]),
            node("Cast", ["ended"], ["ended_1"], to=TensorProto.INT64),
            node("ReduceSum", ["ended_1", "rows"], ["request"], keepdims=0),
            node("Gather", ["counts", "request"], ["count"]),
            node("Cast", ["count"], ["factor"], to=TensorProto.FLOAT),
            node("Mul", ["INPUT", "factor"], ["OUTPUT"]),
        ],
        [("INPUT", "FP32", ("elements",)), ("COUNT", "INT32", ("requests",))],
        [("OUTPUT", "FP32", ("elements",))],
        axis=np.array(0, np.int64), columns=np.array([1], np.int64), rows=np.array([0], np.int64),
        zero=np.array(0, np.int64), one=np.array(1, np.int64),
    )  # fmt: skip


def with_default(value: float = 10.0) -> bytes:
    """y is x + bias, an input that has a value in the model."""
    made = onnx.ModelProto.FromString(
        graph(
            [node("Add", ["x", "bias"], ["y"])],
            [("x", "FP32", ("n", 2)), ("bias", "FP32", ("m", 2))],
            [("y", "FP32", ("n", 2))],
            bias=np.full((1, 2), value, np.float32),
        )
    )
    return made.SerializeToString()


def write(folder: Path, name: str, model: bytes, version: int = 1, config: str = "") -> Path:
    """One version of a model in a repository; returns the model's folder."""
    path = folder / name / str(version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model)
    if config:
        (folder / name / "config.yaml").write_text(config)
    return folder / name
