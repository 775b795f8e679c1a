"""An MLflow model as a Python function: arrays in the columns or tensors of its signature, and
what it returns, whatever it is, as arrays again.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a server calls nobody

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import Model as Description
from mlflow.types import ColSpec, DataType

from inferd.backends.base import ModelDescription, ModelInstance
from inferd.backends.completion import complete, observed_shapes, probe_batching
from inferd.backends.python_warnings import without_warnings
from inferd.backends.results import as_described
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError, Unsupported
from inferd.types.datatype import BYTES, CONFIG_DATATYPES, DATATYPES
from inferd.types.datatype import DataType as TensorType
from inferd.types.tensor import Array, TensorSpec

INPUT, OUTPUT = "input", "predict"
"""Names of tensors that have none."""

_COLUMNS: dict[Any, str] = {
    DataType.boolean: "BOOL", DataType.integer: "INT32", DataType.long: "INT64",
    DataType.float: "FP32", DataType.double: "FP64", DataType.string: "BYTES",
    DataType.binary: "BYTES", DataType.datetime: "BYTES",
}  # fmt: skip
_TYPES = {kind.dtype: kind for kind in DATATYPES.values() if kind.name not in ("BF16", "BYTES")}


class FunctionInstance:
    """One copy of the function. `schema` is the signature's, None where there is none."""

    def __init__(
        self, function: Any, schema: Any, inputs: list[str], outputs: Sequence[TensorSpec]
    ) -> None:
        self._function = function
        self._schema = schema
        self._inputs = inputs
        self._outputs = outputs

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch; see ModelInstance."""
        found = self.results(inputs)
        missing = [spec.name for spec in self._outputs if spec.name not in found]
        if missing:
            raise BackendError(f"MLflow: the model returned no {', '.join(missing)}")
        return [as_described(spec, found[spec.name]) for spec in self._outputs]

    def results(self, inputs: list[Array]) -> dict[str, Array]:
        """All that the function returns."""
        feed = dict(zip(self._inputs, inputs, strict=True))
        try:
            return _arrays(self._function.predict(_frame(feed, self._schema)))
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"MLflow: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Let go of the function."""
        self._function = None


class FunctionModel:
    """A folder that is served as a Python function."""

    def __init__(self, folder: Path, config: ModelConfig, note: str) -> None:
        if any(group.on_gpu for group in config.instance_group):
            raise ConfigError("a Python function of MLflow chooses its device itself; use "
                              "KIND_CPU", field="instance_group.kind")  # fmt: skip
        self._folder = folder
        self._first: Any = self._load()
        description: Any = Description.load(str(folder))
        self._schema = description.get_input_schema()
        inputs = _inputs(self._schema, config)
        names = [spec.name for spec in inputs]
        outputs = _observed(FunctionInstance(self._first, self._schema, names, []), inputs)
        notes, max_batch_size = [note], config.max_batch_size
        if max_batch_size is None:
            runner = FunctionInstance(self._first, self._schema, names, outputs)
            max_batch_size, why = probe_batching(runner.run, inputs, outputs)
            notes.append(why)
        self.description: ModelDescription = complete(
            config, "mlflow", "mlflow", inputs, outputs, max_batch_size, notes
        )

    def _load(self) -> Any:
        try:
            with without_warnings():
                return mlflow.pyfunc.load_model(str(self._folder), suppress_warnings=True)
        except Exception as error:
            raise BackendError(f"MLflow cannot load {self._folder.name}: {error}") from error

    def create_instance(self) -> FunctionInstance:
        """The first takes the function that was described, later ones load theirs."""
        function, self._first = self._first or self._load(), None
        names = [spec.name for spec in self.description.inputs]
        return FunctionInstance(function, self._schema, names, self.description.outputs)

    def create_lanes(self) -> list[ModelInstance]:
        """None: Python runs one at a time."""
        return []

    def close(self) -> None:
        """Drop a function that no instance took."""
        self._first = None


def _inputs(schema: Any, config: ModelConfig) -> list[TensorSpec]:
    """From the signature: a tensor, or for each column a tensor of one value a row."""
    if schema is None:
        if not config.input:
            raise ConfigError(
                "is needed: the model was logged without a signature. Log it with "
                "signature=mlflow.models.infer_signature(inputs, outputs), or write, with your own "
                "dims (without the batch):\ninput:\n  - {name: input, data_type: TYPE_FP64, "
                "dims: [4]}",
                field="input",
            )
        free = () if config.max_batch_size == 0 else (-1,)
        return [
            TensorSpec(entry.name, CONFIG_DATATYPES[entry.data_type], (*free, *entry.dims))
            for entry in config.input
        ]
    if schema.is_tensor_spec():
        return [
            TensorSpec(spec.name or INPUT, _datatype(spec.name or INPUT, spec.type), spec.shape)
            for spec in schema.inputs
        ]
    columns = []
    for place, column in enumerate(schema.inputs):
        name = str(column.name if column.name is not None else place)
        if not isinstance(column, ColSpec) or column.type not in _COLUMNS:
            raise Unsupported(f"column '{name}' is {column.type}, which is not one value a row; "
                              "serve it from a Python model")  # fmt: skip
        columns.append(TensorSpec(name, DATATYPES[_COLUMNS[column.type]], (-1,)))
    return columns


def _frame(feed: dict[str, Array], schema: Any) -> Any:
    """What the function takes: a frame of columns, an array, or arrays by name."""
    if schema is not None and not schema.is_tensor_spec():
        columns = {
            name if column.name is not None else place: _column(array, column.type)
            for place, (column, (name, array)) in enumerate(
                zip(_in_order(schema, feed), feed.items(), strict=True)
            )
        }
        return pd.DataFrame(columns)
    if schema is None and len(feed) > 1 and all(array.ndim == 1 for array in feed.values()):
        return pd.DataFrame({name: _texts(array) for name, array in feed.items()})
    if len(feed) == 1 and (schema is None or schema.inputs[0].name is None):
        return _texts(next(iter(feed.values())))
    return {name: _texts(array) for name, array in feed.items()}


def _in_order(schema: Any, feed: dict[str, Array]) -> list[ColSpec]:
    """The columns by the names of the feed, which may stand in another order."""
    by_name = {str(c.name if c.name is not None else n): c for n, c in enumerate(schema.inputs)}
    return [by_name[name] for name in feed]


def _column(array: Array, kind: Any) -> Any:
    if kind == DataType.datetime:
        return pd.to_datetime(_texts(array))
    return array if kind == DataType.binary else _texts(array)


def _texts(array: Array) -> Any:
    """Text where there are bytes: MLflow's strings are Python's."""
    if array.dtype.kind != "O":
        return array
    texts = np.empty(array.size, object)
    texts[:] = [value.decode() for value in array.ravel().tolist()]
    return texts.reshape(array.shape)


def _observed(runner: FunctionInstance, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """What the function returns, found out by calling it."""
    last: dict[str, Array] = {}

    def shapes_of(arrays: list[Array]) -> list[tuple[int, ...]]:
        last.update(runner.results(arrays))
        return [array.shape for array in last.values()]

    try:
        shapes = observed_shapes(shapes_of, inputs)
    except BackendError as error:
        raise BackendError(
            f"a call with made-up rows failed, so what the model returns is not known: {error}"
        ) from error
    pairs = zip(last.items(), shapes, strict=True)
    return [TensorSpec(name, _datatype(name, array.dtype), shape) for (name, array), shape in pairs]


def _datatype(name: str, dtype: Any) -> TensorType:
    dtype = np.dtype(dtype)
    found = BYTES if dtype.kind in "OSU" else _TYPES.get(dtype)
    if found is None:
        raise Unsupported(f"tensor '{name}' has dtype {dtype}, which has no datatype in the Open "
                          "Inference Protocol")  # fmt: skip
    return found


def _arrays(result: Any) -> dict[str, Array]:
    """What a function returned, by name: columns, keys, or `predict`."""
    if isinstance(result, pd.DataFrame):
        return {str(name): _array(result[name].to_numpy()) for name in result.columns}
    if isinstance(result, dict):
        return {str(name): _array(value) for name, value in result.items()}
    if isinstance(result, pd.Series):
        return {str(result.name or OUTPUT): _array(result.to_numpy())}
    return {OUTPUT: _array(result)}


def _array(value: Any) -> Array:
    """An array of its own; text becomes bytes."""
    array = np.array(value)
    if array.dtype.kind == "M":
        array = np.datetime_as_string(array)
    if array.dtype.kind not in "OSU":
        return np.ascontiguousarray(array) if array.ndim else array
    encoded: Array = np.empty(array.size, object)
    flat = array.ravel().tolist()
    encoded[:] = [entry if isinstance(entry, bytes) else str(entry).encode() for entry in flat]
    return encoded.reshape(array.shape)
