"""A TFLite interpreter as a function to call with named arrays: by LiteRT's package where it is
installed, otherwise by TensorFlow's. One caller at a time.
"""

from pathlib import Path
from typing import Any

import numpy as np

from inferd.backends.python_warnings import without_warnings
from inferd.backends.tensorflow_files import DEFAULT_SIGNATURE, words
from inferd.backends.tensorflow_runtime import tensorflow
from inferd.errors import BackendError, ConfigError, InferdError, Unsupported
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array, TensorSpec

_TYPES = {
    DATATYPES[name].dtype: DATATYPES[name]
    for name in (
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
        "FP32", "FP64",
    )
}  # fmt: skip
_IDENTIFIER = b"TFL3"


class TFLiteFunction:
    """One interpreter, by a signature or, for a file that has none, by its tensors' own names."""

    steady = True
    resizable = True

    def __init__(self, path: Path, signature: str, threads: int) -> None:
        content = path.read_bytes() if path.is_file() else b""
        if content[4:8] != _IDENTIFIER:
            raise BackendError(f"TFLite cannot load {path.name}: it is not a TFLite file")
        try:
            with without_warnings():
                # The content, not the path: a file that is replaced must not change the model.
                make = _interpreter(threads)
                self._interpreter = make(model_content=content, num_threads=threads)
                self._interpreter.allocate_tensors()
                self._runner = _runner(self._interpreter, signature)
                inputs, outputs = self._details()
        except InferdError:
            raise
        except Exception as error:
            raise BackendError(f"TFLite cannot load {path.name}: {words(error)}") from error
        self._inputs = {name: detail["index"] for name, detail in inputs.items()}
        self._outputs = {name: detail["index"] for name, detail in outputs.items()}
        self.inputs = [_spec(name, detail) for name, detail in inputs.items()]
        self.outputs = [_spec(name, detail) for name, detail in outputs.items()]

    def _details(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What there is to know of inputs and outputs, by name."""
        if self._runner is not None:
            return self._runner.get_input_details(), self._runner.get_output_details()
        inputs, outputs = (
            {d["name"].removesuffix(":0"): d for d in details}
            for details in (
                self._interpreter.get_input_details(), self._interpreter.get_output_details()
            )
        )  # fmt: skip
        return inputs, outputs

    def call(self, feed: dict[str, Array]) -> dict[str, Array]:
        """Results by name, each a copy; raises what TFLite raises."""
        if self._runner is not None:
            found: dict[str, Array] = self._runner(**feed)
            return found
        interpreter = self._interpreter
        shapes = {d["index"]: tuple(d["shape"]) for d in interpreter.get_input_details()}
        if any(shapes[self._inputs[name]] != array.shape for name, array in feed.items()):
            for name, array in feed.items():
                interpreter.resize_tensor_input(self._inputs[name], array.shape)
            interpreter.allocate_tensors()
        for name, array in feed.items():
            interpreter.set_tensor(self._inputs[name], array)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in self._outputs.items()}


def _interpreter(threads: int) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return tensorflow(threads).lite.Interpreter
    return Interpreter


def _runner(interpreter: Any, signature: str) -> Any:
    found = list(interpreter.get_signature_list())
    if not found and not signature:
        return None
    wanted = signature or (found[0] if len(found) == 1 else DEFAULT_SIGNATURE)
    if wanted not in found:
        raise ConfigError(
            f"there is no signature '{wanted}'; there are: {', '.join(found) or 'none'}",
            field="parameters.signature",
        )
    return interpreter.get_signature_runner(wanted)


def _spec(name: str, detail: dict[str, Any]) -> TensorSpec:
    datatype = _TYPES.get(np.dtype(detail["dtype"]))
    if datatype is None:
        raise Unsupported(f"tensor '{name}' has type {detail['dtype'].__name__}, which TFLite and "
                          "inferd cannot hand each other")  # fmt: skip
    signature = detail.get("shape_signature", detail["shape"])
    dims = signature if len(signature) == len(detail["shape"]) else detail["shape"]
    return TensorSpec(name, datatype, tuple(int(dim) for dim in dims))
