"""SavedModel folders and Keras files, each read into a Function: what can be called with named
arrays, and what its tensors are.
"""

import zipfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from inferd.backends.python_warnings import without_warnings
from inferd.errors import BackendError, ConfigError, InferdError, Unsupported
from inferd.types.datatype import BF16, BYTES, DATATYPES, DataType
from inferd.types.tensor import Array, TensorSpec

_TYPES: dict[str, DataType] = {
    tensorflow_name: DATATYPES[name]
    for tensorflow_name, name in {
        "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
        "uint64": "UINT64", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
        "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64",
        "string": "BYTES",
    }.items()
}  # fmt: skip
_UNSTEADY = {"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase", "Where"}
DEFAULT_SIGNATURE = "serving_default"


class Function(Protocol):
    """Something to call with named arrays. The shape of an output is None where nothing says even
    how many dimensions it has; `resizable` promises that other first dimensions may be tried."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    steady: bool
    resizable: bool

    def call(self, feed: dict[str, Array]) -> dict[str, Array]:
        """Results by name; raises what the framework raises."""


class GraphFunction:
    """A concrete function of TensorFlow on a device; several threads may call it at once."""

    resizable = False

    def __init__(self, tf: Any, function: Any, inputs: Any, outputs: Any, device: str) -> None:
        self._tf = tf
        self._function = function
        self._device = device
        self.inputs = [_spec(name, spec, True) for name, spec in inputs.items()]
        self.outputs = [_spec(name, spec, False) for name, spec in outputs.items()]
        self._types = {name: spec.dtype for name, spec in inputs.items()}
        graph = function.graph.as_graph_def()
        nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
        self.steady = not any(node.op in _UNSTEADY for node in nodes)

    def call(self, feed: dict[str, Array]) -> dict[str, Array]:
        """See Function."""
        tensors = {}
        with self._tf.device(self._device):
            for name, array in feed.items():
                dtype = self._types[name]
                if dtype == self._tf.bfloat16:
                    array = array.view(dtype.as_numpy_dtype)
                tensors[name] = self._tf.constant(array, dtype)
            found = self._function(**tensors)
        return {spec.name: _array(found[spec.name], spec.datatype) for spec in self.outputs}


def read_saved_model(tf: Any, folder: Path, device: str, signature: str) -> GraphFunction:
    """One signature of a SavedModel; raises BackendError, or ConfigError for one that it lacks."""
    try:
        with without_warnings(), tf.device(device):
            loaded = tf.saved_model.load(str(folder))
    except Exception as error:
        raise BackendError(f"TensorFlow cannot load {folder.name}: {words(error)}") from error
    found = dict(loaded.signatures)
    if not found:
        raise Unsupported(f"{folder.name} was saved without signatures; give them to "
                          "tf.saved_model.save(model, path, signatures=...)")  # fmt: skip
    wanted = signature or (next(iter(found)) if len(found) == 1 else DEFAULT_SIGNATURE)
    if wanted not in found:
        raise ConfigError(
            f"there is no signature '{wanted}'; there are: {', '.join(found)}",
            field="parameters.signature",
        )
    function = found[wanted]
    inputs, outputs = function.structured_input_signature[1], function.structured_outputs
    return _Loaded(tf, function, inputs, outputs, device, loaded)


class _Loaded(GraphFunction):
    """A signature; the variables that it uses live as long as what was loaded."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args[:-1])
        self._owner = args[-1]


def read_keras(tf: Any, path: Path, device: str, trust: bool) -> GraphFunction:
    """A Keras model as one graph; its outputs are named as `model.export` names them."""
    if not zipfile.is_zipfile(path):
        raise BackendError(f"TensorFlow cannot load {path.name}: it is not a .keras file")
    try:
        with without_warnings(), tf.device(device):
            model = tf.keras.models.load_model(str(path), compile=False, safe_mode=not trust)
            return _keras_function(tf, path, model, device)
    except InferdError:
        raise
    except Exception as error:
        if "safe_mode" in str(error):
            raise Unsupported(
                f"{path.name} holds Python code, in a Lambda layer; serve it with --trust if you "
                "know where it comes from"
            ) from error
        raise BackendError(f"TensorFlow cannot load {path.name}: {words(error)}") from error


def _keras_function(tf: Any, path: Path, model: Any, device: str) -> GraphFunction:
    flat = getattr(model, "inputs", None)
    if not flat:
        raise Unsupported(f"{path.name} is a model of its own class, which does not say its "
                          "inputs: write it with model.export(folder)")  # fmt: skip
    # A sequence of layers that was not called yet has inputs, but no structure of them.
    structure = getattr(model, "input", flat[0])
    names = [tensor.name for tensor in flat]
    specs = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in flat]

    def call(**tensors: Any) -> Any:
        packed = tf.nest.pack_sequence_as(structure, [tensors[name] for name in names])
        found = model(packed, training=False)
        if isinstance(found, dict):
            return found
        return {f"output_{n}": tensor for n, tensor in enumerate(tf.nest.flatten(found))}

    inputs = dict(zip(names, specs, strict=True))
    function = tf.function(call, autograph=False).get_concrete_function(**inputs)
    return _Loaded(tf, function, inputs, function.structured_outputs, device, model)


def _spec(name: str, spec: Any, is_input: bool) -> TensorSpec:
    datatype = _TYPES.get(spec.dtype.name)
    if datatype is None:
        raise Unsupported(f"tensor '{name}' has type {spec.dtype.name}, which has no datatype in "
                          "the Open Inference Protocol")  # fmt: skip
    if spec.shape.rank is None:
        if is_input:
            raise Unsupported(f"tensor '{name}' may have any number of dimensions; give it a shape "
                              "in the signature")  # fmt: skip
        return TensorSpec(name, datatype, None)  # type: ignore[arg-type]
    return TensorSpec(name, datatype, tuple(-1 if d is None else d for d in spec.shape.as_list()))


def _array(tensor: Any, datatype: DataType) -> Array:
    """A copy in the form of the protocol."""
    array = tensor.numpy()
    if datatype is BYTES:
        return array if isinstance(array, np.ndarray) else np.array(array, dtype=object)
    array = np.asarray(array)
    return array.view(np.uint16) if datatype is BF16 else array


def words(error: Exception) -> str:
    """The first line of what an error says: TensorFlow appends where in the graph it was."""
    message = getattr(error, "message", None) or str(error)
    lines = [line.strip() for line in str(message).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Graph execution error")]
    return lines[0] if lines else repr(error)
