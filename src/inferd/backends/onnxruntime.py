"""ONNX models through ONNX Runtime.

Strings are UTF-8 text to ONNX Runtime. BF16 has no numpy type, so models with it are run through
OrtValues and read back from their memory.
"""

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from inferd.backends.base import ModelDescription, ModelInstance, OpenOptions
from inferd.backends.completion import complete, probe_batching
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError, InferdError, InvalidRequest, Unsupported
from inferd.types.datatype import BF16, BYTES, DATATYPES, DataType
from inferd.types.tensor import Array, LeftOut, TensorSpec

_ONNX_TYPES: dict[str, DataType] = {
    f"tensor({onnx_name})": DATATYPES[name]
    for onnx_name, name in {
        "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
        "uint64": "UINT64", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
        "float16": "FP16", "bfloat16": "BF16", "float": "FP32", "double": "FP64", "string": "BYTES",
    }.items()
}  # fmt: skip
Provider = str | tuple[str, dict[str, int]]

_UNSTEADY = (b"Loop", b"Scan", b"If", b"Range")
MAX_SCANNED_BYTES = 256 << 20
MAX_LANES = 4
MAX_LANES_BYTES = 256 << 20
_ONNX_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16


class OnnxInstance:
    """One ONNX Runtime session."""

    def __init__(
        self, session: ort.InferenceSession, inputs: tuple[TensorSpec, ...], outputs: list[str]
    ) -> None:
        self._session: Any = session
        self._input_names = [spec.name for spec in inputs]
        self._output_names = outputs
        specs = {o.name: _ONNX_TYPES[o.type] for o in session.get_outputs() if o.name in outputs}
        self._output_types = [specs[name] for name in outputs]
        types = {*(spec.datatype for spec in inputs), *self._output_types}
        self._has_strings = BYTES in types
        self._has_bf16 = BF16 in types
        self._input_types = [spec.datatype for spec in inputs]
        self._has_defaults = any(spec.optional for spec in inputs)

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch; see ModelInstance. What was left out has a value in the model."""
        if self._has_strings:
            inputs = [
                _decode_strings(name, array) if kind is BYTES else array
                for name, kind, array in zip(
                    self._input_names, self._input_types, inputs, strict=True
                )
            ]
        try:
            if self._has_bf16:
                return self._run_ort_values(inputs)
            feed = dict(zip(self._input_names, inputs, strict=True))
            if self._has_defaults:
                feed = {n: array for n, array in feed.items() if not isinstance(array, LeftOut)}
            outputs: list[Array] = self._session.run(self._output_names, feed)
        except InferdError:
            raise
        except Exception as error:
            raise _translate(error) from error
        if self._has_strings:
            outputs = [
                _encode_strings(array) if kind is BYTES else array
                for kind, array in zip(self._output_types, outputs, strict=True)
            ]
        return outputs

    def _run_ort_values(self, inputs: list[Array]) -> list[Array]:
        feed = {}
        for name, kind, array in zip(self._input_names, self._input_types, inputs, strict=True):
            if isinstance(array, LeftOut):
                continue
            array = np.ascontiguousarray(array)
            if kind is BF16:
                value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_BFLOAT16)
            else:
                value = ort.OrtValue.ortvalue_from_numpy(array)
            feed[name] = value
        values = self._session.run_with_ort_values(self._output_names, feed)
        return [
            _read_bf16(value) if kind is BF16 else value.numpy()
            for kind, value in zip(self._output_types, values, strict=True)
        ]

    def close(self) -> None:
        """Drop the session; ONNX Runtime frees its arena with it."""
        self._session = None


class OnnxModel:
    """An ONNX file and the options its sessions are made with."""

    def __init__(self, path: Path, config: ModelConfig, threads: int) -> None:
        self._path = path
        self._config = config
        self._options = _session_options(config, threads)
        self._providers = _providers(config)
        self._made = 0
        on_gpu = any(group.on_gpu for group in config.instance_group)
        self._lanes_off = "intra_op_thread_count" in config.parameters or on_gpu
        first = self._open_session()
        inputs = [_spec(argument) for argument in first.get_inputs()]
        inputs += _with_defaults(config, first)
        outputs = [_spec(argument) for argument in first.get_outputs()]
        if {BF16, BYTES} <= {spec.datatype for spec in (*inputs, *outputs)}:
            raise Unsupported("a model with both BF16 and string tensors is not supported: ONNX "
                              "Runtime's Python API can carry either, not both")  # fmt: skip
        max_batch_size, notes = (
            config.max_batch_size,
            [f"{self._options.intra_op_num_threads} intra-op threads an instance"],
        )
        if max_batch_size is None:
            probe = OnnxInstance(first, tuple(inputs), [spec.name for spec in outputs])
            max_batch_size, note = probe_batching(probe.run, inputs, outputs)
            notes.append(note)
        self.description: ModelDescription = complete(
            config, OnnxRuntimeBackend.platform, OnnxRuntimeBackend.name, inputs, outputs,
            max_batch_size, notes, _is_steady(path),
        )  # fmt: skip
        self._first: ort.InferenceSession | None = first

    def create_instance(self) -> OnnxInstance:
        """The first instance takes the session that described the model, later ones open theirs."""
        session, self._first = self._first or self._open_session(), None
        self._made += 1
        outputs = [spec.name for spec in self.description.outputs]
        return OnnxInstance(session, self.description.inputs, outputs)

    def create_lanes(self) -> list[ModelInstance]:
        """Lanes share one session more, so the weights are in memory twice."""
        threads = self._options.intra_op_num_threads
        count = min(threads, MAX_LANES)
        if count < 2 or self._lanes_off or self._path.stat().st_size > MAX_LANES_BYTES:
            return []
        options = _session_options(self._config, threads // count)
        session = self._open_session(options)
        outputs = [spec.name for spec in self.description.outputs]
        return [OnnxInstance(session, self.description.inputs, outputs) for _ in range(count)]

    def close(self) -> None:
        """Drop a session that no instance took."""
        self._first = None

    def _open_session(self, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
        options = options or self._options
        providers = self._providers[self._made % len(self._providers)]
        try:
            return ort.InferenceSession(str(self._path), options, providers=providers)
        except Exception as error:
            raise BackendError(f"ONNX Runtime cannot load {self._path.name}: {error}") from error


class OnnxRuntimeBackend:
    """Opens `.onnx` files."""

    name = "onnxruntime"
    platform = "onnxruntime_onnx"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> OnnxModel:
        """Open a model file; see Backend."""
        return OnnxModel(path, config, options.threads)


def _session_options(config: ModelConfig, threads: int) -> ort.SessionOptions:
    """Triton's parameter names for the ONNX Runtime backend override what inferd chose."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, with the same words
    options.intra_op_num_threads = _count(config, "intra_op_thread_count", threads)
    options.inter_op_num_threads = _count(config, "inter_op_thread_count", 1)
    # Workers that spin between batches would take the event loop's core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if config.optimization is not None and config.optimization.graph is not None:
        options.graph_optimization_level = _graph_level(config.optimization.graph.level)
    return options


def _graph_level(level: int) -> ort.GraphOptimizationLevel:
    """Triton's number for a level."""
    levels = ort.GraphOptimizationLevel
    found = {
        0: levels.ORT_ENABLE_ALL, 1: levels.ORT_ENABLE_EXTENDED, -1: levels.ORT_ENABLE_BASIC,
        2: levels.ORT_DISABLE_ALL,
    }.get(level)  # fmt: skip
    if found is None:
        raise ConfigError(f"is {level}, expected -1, 0, 1 or 2", field="optimization.graph.level")
    return found


def _is_steady(path: Path) -> bool:
    """Whether the graph has no operator that makes run time depend on values.

    Node operators are looked for as protobuf writes them: tag of NodeProto.op_type, length, name.
    Reading a large file for this is not worth it: such a model takes its time anyway.
    """
    if path.stat().st_size > MAX_SCANNED_BYTES:
        return False
    content = path.read_bytes()
    return not any(b'"%c%b' % (len(name), name) in content for name in _UNSTEADY)


def _providers(config: ModelConfig) -> list[list[Provider]]:
    """What runs each instance: the CPU unless its group asks for a GPU."""
    on_gpu = any(group.on_gpu for group in config.instance_group)
    if on_gpu and "CUDAExecutionProvider" not in ort.get_available_providers():
        raise ConfigError(
            "KIND_GPU needs an ONNX Runtime with CUDA: pip install onnxruntime-gpu in place of "
            "onnxruntime, or use KIND_CPU",
            field="instance_group.kind",
        )
    return [providers_on(one.device) for one in config.instances]


def providers_on(device: str) -> list[Provider]:
    """What runs a session on a device; what CUDA cannot do, the CPU does."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]


def _count(config: ModelConfig, name: str, default: int) -> int:
    text = config.parameter(name, str(default))
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise ConfigError(f"is '{text}', expected a whole number", field=f"parameters.{name}")
    return count or default


def _spec(argument: Any) -> TensorSpec:
    datatype = _ONNX_TYPES.get(argument.type)
    if datatype is None:
        raise Unsupported(f"tensor '{argument.name}' has type {argument.type}, which has no "
                          "datatype in the Open Inference Protocol")  # fmt: skip
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in argument.shape)
    return TensorSpec(argument.name, datatype, shape)


def _with_defaults(config: ModelConfig, session: ort.InferenceSession) -> list[TensorSpec]:
    """Inputs that have a value in the model, where the configuration names them; to clients the
    rest are no inputs."""
    optional = {entry.name: entry.optional for entry in config.input}
    return [
        replace(_spec(argument), optional=optional[argument.name])
        for argument in session.get_overridable_initializers()
        if argument.name in optional
    ]


def _decode_strings(name: str, array: Array) -> Array:
    try:
        flat = [value.decode() for value in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"input '{name}' has an element that is not UTF-8 text, which this model needs: {error}"
        ) from error
    decoded: Array = np.empty(len(flat), dtype=object)
    decoded[:] = flat
    return decoded.reshape(array.shape)


def _encode_strings(array: Array) -> Array:
    encoded: Array = np.empty(array.size, dtype=object)
    encoded[:] = [str(value).encode() for value in array.ravel().tolist()]
    return encoded.reshape(array.shape)


def _read_bf16(value: Any) -> Array:
    """A copy of the bits; the memory is the OrtValue's."""
    shape = tuple(value.shape())
    size = int(np.prod(shape))
    if not size:
        return np.zeros(shape, np.uint16)
    bits = bytearray(ctypes.string_at(value.data_ptr(), size * 2))
    return np.frombuffer(bits, np.uint16).reshape(shape)


def _translate(error: Exception) -> InferdError:
    """ONNX Runtime's INVALID_ARGUMENT is about the values it was given: the caller's."""
    if type(error).__name__ == "InvalidArgument":
        return InvalidRequest(f"onnx runtime error 2: {error}")
    return BackendError(f"onnx runtime error: {error}")
