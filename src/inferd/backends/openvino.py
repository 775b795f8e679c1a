"""Models through OpenVINO: its own IR (`.xml` beside `.bin`), and ONNX and TFLite as OpenVINO reads
them.

Where the processor multiplies bfloat16 natively, that is what OpenVINO computes in, unless the
parameter `precision` says `f32`; what this costs in accuracy is measured and noted. On the CPU it
holds 64-bit integers in 32 bits and float64 in 32, whatever the precision.
"""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino.frontend import FrontEndManager

from inferd.backends.base import ModelDescription, ModelInstance, OpenOptions
from inferd.backends.completion import PROBE_DIM, complete, probe_batching
from inferd.backends.trial import asked_precision, difference, trial_rows
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError, InferdError, InvalidRequest, Unsupported
from inferd.types.datatype import BF16, DATATYPES, DataType
from inferd.types.tensor import Array, TensorSpec

_TYPES: dict[str, DataType] = {
    openvino_name: DATATYPES[name]
    for openvino_name, name in {
        "boolean": "BOOL", "u8": "UINT8", "u16": "UINT16", "u32": "UINT32", "u64": "UINT64",
        "i8": "INT8", "i16": "INT16", "i32": "INT32", "i64": "INT64", "f16": "FP16", "bf16": "BF16",
        "f32": "FP32", "f64": "FP64",
    }.items()
}  # fmt: skip
_NARROWED = {"UINT32", "UINT64", "INT64", "FP64"}
_READERS = {".onnx": "onnx", ".tflite": "tflite"}
"""Which of OpenVINO's readers takes a suffix; any other is its own IR."""
MAX_LANES = 4
MAX_COPIED_BYTES = 256 << 20
"""Larger models are not compiled once more, for lanes or to measure their precision."""


class OpenVinoInstance:
    """One infer request; the description's outputs are chosen from those of the model."""

    def __init__(
        self, request: Any, inputs: list[tuple[int, DataType]], outputs: list[tuple[int, DataType]]
    ) -> None:
        self._request = request
        self._inputs = inputs
        self._outputs = outputs

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch; see ModelInstance. Contiguous inputs are read where they lie."""
        try:
            feed = {
                index: _tensor(array, kind)
                for (index, kind), array in zip(self._inputs, inputs, strict=True)
            }
            found = self._request.infer(feed, share_outputs=False)
            arrays = [found[index] for index, _ in self._outputs]
        except Exception as error:
            raise _translate(error) from error
        return [
            array.view(np.uint16) if kind is BF16 else array
            for (_, kind), array in zip(self._outputs, arrays, strict=True)
        ]

    def close(self) -> None:
        """Drop the request and with it what was compiled for it."""
        self._request = None


class OpenVinoModel:
    """A graph that OpenVINO has read, and the properties it is compiled with."""

    def __init__(self, path: Path, config: ModelConfig, threads: int) -> None:
        self._graph = _read(path)
        self._device = _device(config)
        self._threads = _thread_count(config, threads)
        self._precision = _precision(config, self._device)
        self._size = sum(file.stat().st_size for file in _files(path))
        try:
            inputs = [_spec(p, p.get_node().get_friendly_name()) for p in self._graph.inputs]
            outputs = [_spec(port, _output_name(port)) for port in self._graph.outputs]
        except UnicodeDecodeError as error:
            raise BackendError(f"OpenVINO cannot load {path.name}: {error}") from error
        self._all = (inputs, outputs)
        compiled = self._compile(1, self._threads)
        self.runs_in = _short(compiled.get_property("INFERENCE_PRECISION_HINT"))
        notes = [f"{self._threads} threads an instance", *_narrowing(inputs, outputs, self._device)]
        max_batch_size = config.max_batch_size
        if max_batch_size is None:
            # Rounding to bfloat16 may hide that rows depend on each other, or feign it.
            probe = self._instance(self._compile(1, self._threads, "f32"), inputs, outputs)
            max_batch_size, note = probe_batching(probe.run, inputs, outputs)
            notes.append(note)
        self.description: ModelDescription = complete(
            config, OpenVinoBackend.platform, OpenVinoBackend.name, inputs, outputs,
            max_batch_size, notes, _is_steady(self._graph),
        )  # fmt: skip
        self._first: Any = compiled

    def create_instance(self) -> OpenVinoInstance:
        """The first instance takes what described the model, later ones are compiled anew."""
        compiled, self._first = self._first or self._compile(1, self._threads), None
        return self._instance(compiled, self.description.inputs, self.description.outputs)

    def create_lanes(self) -> list[ModelInstance]:
        """Lanes are streams of one compiled model, so the weights are in memory twice."""
        count = min(self._threads, MAX_LANES)
        if count < 2 or self._device != "CPU" or self._size > MAX_COPIED_BYTES:
            return []
        compiled = self._compile(count, self._threads)
        specs = self.description.inputs, self.description.outputs
        return [self._instance(compiled, *specs) for _ in range(count)]

    def close(self) -> None:
        """Drop what no instance took."""
        self._first = self._graph = None

    def measured_loss(self) -> str:
        """A note of what the precision costs, against float32 on made-up rows; '' if nothing."""
        if self.runs_in == "f32":
            return "computed in f32"
        told = f"computed in {self.runs_in} (parameter precision: f32 for exact)"
        if self._size > MAX_COPIED_BYTES:
            return f"{told}; too large to be compiled twice, so its loss was not measured"
        specs = self.description.inputs, self.description.outputs
        rows = trial_rows(self.description, 2, PROBE_DIM)
        try:
            instance = self._instance(self._first, *specs)
            exact = self._instance(self._compile(1, self._threads, "f32"), *specs)
            apart = difference(exact.run(rows), instance.run(rows), self.description.outputs)
        except InferdError as error:
            return f"{told}; its loss could not be measured: {error}"
        percent = f"{apart * 100:.2g} %"
        return f"{told}; on made-up rows up to {percent} of an output's largest value off f32"

    def _compile(self, streams: int, threads: int, precision: str = "") -> Any:
        properties: dict[str, Any] = {"NUM_STREAMS": streams}
        if self._device == "CPU":
            # The event loop and other models want cores too, so no thread is bound to one. The
            # performance hint is left alone: with streams and threads given it changes nothing.
            properties |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        if precision or self._precision:
            properties["INFERENCE_PRECISION_HINT"] = precision or self._precision
        try:
            return _core().compile_model(self._graph, self._device, properties)
        except Exception as error:
            raise BackendError(f"OpenVINO cannot compile the model: {_words(error)}") from error

    def _instance(self, compiled: Any, inputs: Any, outputs: Any) -> OpenVinoInstance:
        all_inputs, all_outputs = ([spec.name for spec in specs] for specs in self._all)
        return OpenVinoInstance(
            compiled.create_infer_request(),
            [(all_inputs.index(spec.name), spec.datatype) for spec in inputs],
            [(all_outputs.index(spec.name), spec.datatype) for spec in outputs],
        )


class OpenVinoBackend:
    """Opens `.xml`, `.onnx` and `.tflite` files."""

    name = "openvino"
    platform = "openvino"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> OpenVinoModel:
        """Open a model file; see Backend."""
        model = OpenVinoModel(path, config, options.threads)
        notes = (*model.description.notes, model.measured_loss())
        model.description = replace(model.description, notes=notes)
        return model


@functools.cache
def _core() -> Any:
    """One for the process. Weights are read, not mapped: a file that is replaced while its model
    serves must not change the model."""
    core = ov.Core()
    core.set_property({"ENABLE_MMAP": False})
    return core


def _files(path: Path) -> list[Path]:
    return [file for file in (path, path.with_suffix(".bin")) if file.is_file()]


def _read(path: Path) -> Any:
    """OpenVINO's graph of a file.

    First by the format's own reader: the search that Core makes for one ends in none of them, and
    in words about other formats on standard error. Then by Core, which can leave files unmapped.
    """
    try:
        reader = FrontEndManager().load_by_framework(_READERS.get(path.suffix, "ir"))
        if reader.convert(reader.load(str(path))).outputs:
            return _core().read_model(path)
    except Exception as error:
        raise BackendError(f"OpenVINO cannot load {path.name}: {_words(error)}") from error
    raise BackendError(f"OpenVINO cannot load {path.name}: it has no outputs")


def _device(config: ModelConfig) -> str:
    wanted = {one.device for one in config.instances if one.on_gpu}
    if not wanted:
        return "CPU"
    if len(wanted) > 1:
        raise ConfigError("a model runs on one GPU here; name one", field="instance_group.gpus")
    if "GPU" not in _core().available_devices:
        raise ConfigError(
            "OpenVINO finds no GPU (it runs on those of Intel); use KIND_CPU, or backend "
            "onnxruntime for CUDA",
            field="instance_group.kind",
        )
    _, numbered, number = wanted.pop().partition(":")
    name = f"GPU.{number}" if numbered else "GPU"
    if numbered and number != "0" and name not in _core().available_devices:
        raise ConfigError(f"OpenVINO finds no GPU {number}", field="instance_group.gpus")
    return name


def _precision(config: ModelConfig, device: str) -> str:
    """What OpenVINO is asked to compute in; '' leaves it to OpenVINO."""
    asked = asked_precision(config)
    if asked != "auto":
        return asked
    if device != "CPU":
        return ""
    return "bf16" if "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def _thread_count(config: ModelConfig, default: int) -> int:
    text = config.parameter("INFERENCE_NUM_THREADS", str(default))
    if not text.isdecimal():
        field = "parameters.INFERENCE_NUM_THREADS"
        raise ConfigError(f"is '{text}', expected a whole number", field=field)
    return int(text) or default


def _narrowing(inputs: list[TensorSpec], outputs: list[TensorSpec], device: str) -> list[str]:
    narrowed = sorted({spec.datatype.name for spec in (*inputs, *outputs)} & _NARROWED)
    if device != "CPU" or not narrowed:
        return []
    return [f"OpenVINO holds {', '.join(narrowed)} in 32 bits, with a sign"]


def _spec(port: Any, name: str) -> TensorSpec:
    element_type = port.get_element_type().get_type_name()
    datatype = _TYPES.get(element_type)
    if datatype is None:
        raise Unsupported(f"tensor '{name}' has type {element_type}, which OpenVINO and inferd "
                          "cannot hand each other")  # fmt: skip
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        raise Unsupported(f"tensor '{name}' has any number of dimensions, which OpenVINO does not "
                          "run")  # fmt: skip
    dims = tuple(-1 if dim.is_dynamic else dim.get_length() for dim in shape)
    return TensorSpec(name, datatype, dims)


def _output_name(port: Any) -> str:
    """An output's own name; where its tensor has several, the one that its result is named for."""
    names = sorted(port.get_names())
    own: str = port.get_node().get_friendly_name().removesuffix("/sink_port_0")
    return own if own in names or not names else str(names[0])


def _short(element_type: Any) -> str:
    name: str = element_type.get_type_name()
    return name if name != "dynamic" else "auto"


def _tensor(array: Array, kind: DataType) -> Any:
    if kind is BF16:
        tensor = ov.Tensor(ov.Type.bf16, list(array.shape))
        tensor.data[...] = array.view(np.float16)
        return tensor
    shareable = array.flags.c_contiguous and array.flags.writeable
    return ov.Tensor(array if shareable else array.copy(), shared_memory=True)


_SIZED_FROM = {"Range": 0, "Tile": 1, "Broadcast": 1, "Pad": 1, "OneHot": 1, "Interpolate": 1}
"""Operators whose output is as large as values say, and the first of the inputs that say it."""


def _is_steady(graph: Any) -> bool:
    """Whether the graph has no operator that makes run time depend on values."""
    for node in graph.get_ops():
        kind = node.get_type_name()
        if kind in ("Loop", "If", "NonZero"):
            return False
        first = _SIZED_FROM.get(kind)
        if first is not None and _depend_on_values(node.inputs()[first:]):
            return False
    return True


def _depend_on_values(ports: Any) -> bool:
    """Whether inputs of a node come from those of the model by another way than their shapes."""
    waiting, seen = [port.get_source_output().get_node() for port in ports], set()
    while waiting:
        node = waiting.pop()
        kind = node.get_type_name()
        if kind == "Parameter":
            return True
        if kind == "ShapeOf" or node.get_friendly_name() in seen:
            continue
        seen.add(node.get_friendly_name())
        waiting.extend(port.get_source_output().get_node() for port in node.inputs())
    return False


def _translate(error: Exception) -> InferdError:
    """A tensor that OpenVINO will not take is about what it was given: the caller's."""
    words = _words(error)
    if "the input tensor with" in words:
        return InvalidRequest(f"OpenVINO: {words}")
    return BackendError(f"OpenVINO: {words}")


def _words(error: Exception) -> str:
    """What an error says, without where in OpenVINO it was said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join(told or lines) or repr(error)
