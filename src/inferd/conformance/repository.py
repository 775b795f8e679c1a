"""The models that the checks ask, as a Triton model repository: config.pbtxt and model files.

What only moves numbers is ONNX or Python, as the server has a backend for it; whatever waits,
counts or streams is Python. Triton serves the folder as it is.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from inferd.conformance import onnx_file, python_models

Backend = Literal["onnx", "python"]

DATATYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
    "BF16", "FP32", "FP64", "BYTES",
)  # fmt: skip

LABELS = ("cat", "dog", "bird", "fish")
MAX_BATCH = 8
QUEUE_SIZE = 2


class ModelFiles(NamedTuple):
    """One model: its configuration, the model file of each version, and files beside them."""

    name: str
    config: str
    versions: dict[int, tuple[str, bytes]]
    beside: Mapping[str, str] = MappingProxyType({})


def write_repository(root: Path, backend: Backend = "onnx") -> list[str]:
    """Write every model, and return their names. Raises OSError, and FileExistsError for a folder
    that has something in it."""
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty; name a new folder")
    names = []
    for model in models(backend):
        folder = root / model.name
        folder.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(model.config.lstrip())
        for name, text in model.beside.items():
            (folder / name).write_text(text)
        for version, (name, data) in model.versions.items():
            (folder / str(version)).mkdir()
            if name:
                (folder / str(version) / name).write_bytes(data)
        names.append(model.name)
    return names


def models(backend: Backend) -> Iterator[ModelFiles]:
    """Every model of the repository."""
    for datatype in DATATYPES:
        yield _identity(f"identity_{datatype}", datatype, ["n", "m"], MAX_BATCH, backend)
    # ONNX's strings are text: what is none is for a model in Python.
    yield _identity("strings", "BYTES", ["n", "m"], MAX_BATCH, "python")
    yield _identity("vector", "FP32", [4], 0, backend)
    yield _identity("labelled", "FP32", ["n", 4], MAX_BATCH, backend, labels=True)
    yield _identity("managed", "FP32", ["n", 4], MAX_BATCH, backend, versions=(1, 2, 3))
    yield _add_sub(backend)
    yield _python("batched", python_models.BATCHED, ONE_INT, MAX_BATCH, """
        dynamic_batching { max_queue_delay_microseconds: 300000 preferred_batch_size: [ 4 ] }
    """)  # fmt: skip
    yield _python("slow", python_models.NUMBERED, ONE_INT, 1, "dynamic_batching { }")
    yield _python("priorities", python_models.NUMBERED, ONE_INT, 1, """
        dynamic_batching { priority_levels: 2 default_priority_level: 2 }
    """)  # fmt: skip
    yield _python("bounded", python_models.NUMBERED, ONE_INT, 1, f"""
        dynamic_batching {{
          default_queue_policy {{
            max_queue_size: {QUEUE_SIZE} timeout_action: REJECT allow_timeout_override: true
            default_timeout_microseconds: 5000000
          }}
        }}
    """)  # fmt: skip
    yield _python("accumulator", python_models.ACCUMULATOR, ONE_INT, MAX_BATCH, SEQUENCES)
    yield _python("repeat", python_models.REPEAT, """
        input { name: "INPUT0" data_type: TYPE_INT32 dims: [ -1 ] }
        output { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] }
    """, 0, "model_transaction_policy { decoupled: true }")  # fmt: skip
    yield ModelFiles("chain", _config("chain", 'platform: "ensemble"', MAX_BATCH, """
        input [
          { name: "INPUT0" data_type: TYPE_FP32 dims: [ 16 ] },
          { name: "INPUT1" data_type: TYPE_FP32 dims: [ 16 ] }
        ]
        output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 16 ] }
    """, CHAIN), {1: ("", b"")})  # fmt: skip


ONE_INT = """
        input { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] }
        output { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] }
"""

SEQUENCES = """
        sequence_batching {
          max_sequence_idle_microseconds: 2000000
          direct { }
          control_input [
            { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } },
            { name: "END" control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } },
            { name: "READY" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } },
            { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
          ]
        }
"""

CHAIN = """
        ensemble_scheduling {
          step [
            {
              model_name: "add_sub" model_version: -1
              input_map { key: "INPUT0" value: "INPUT0" }
              input_map { key: "INPUT1" value: "INPUT1" }
              output_map { key: "OUTPUT0" value: "SUM" }
            },
            {
              model_name: "add_sub" model_version: -1
              input_map { key: "INPUT0" value: "SUM" }
              input_map { key: "INPUT1" value: "INPUT1" }
              output_map { key: "OUTPUT0" value: "OUTPUT0" }
            }
          ]
        }
"""


def _identity(
    name: str, datatype: str, shape: list[str | int], batch: int, backend: Backend,
    labels: bool = False, versions: tuple[int, ...] = (1,),
) -> ModelFiles:  # fmt: skip
    dims = [size if isinstance(size, int) else -1 for size in (shape[1:] if batch else shape)]
    wire = "STRING" if datatype == "BYTES" else datatype
    label = ' label_filename: "labels.txt"' if labels else ""
    tensors = f"""
        input {{ name: "INPUT0" data_type: TYPE_{wire} dims: {dims} }}
        output {{ name: "OUTPUT0" data_type: TYPE_{wire} dims: {dims}{label} }}
    """
    beside = {"labels.txt": "\n".join(LABELS) + "\n"} if labels else {}
    more = "version_policy { all { } }" if len(versions) > 1 else ""
    onnx = onnx_file.identity(datatype, shape)
    return _numbers(name, tensors, batch, backend, onnx, python_models.IDENTITY, more, versions,
                    beside)  # fmt: skip


def _add_sub(backend: Backend) -> ModelFiles:
    tensors = "".join(
        f'        {kind.lower()} {{ name: "{kind}{index}" data_type: TYPE_FP32 dims: [ 16 ] }}\n'
        for kind in ("INPUT", "OUTPUT") for index in range(2)
    )  # fmt: skip
    onnx = onnx_file.add_sub("FP32", ["n", 16])
    return _numbers("add_sub", tensors, MAX_BATCH, backend, onnx, python_models.ADD_SUB)


def _numbers(
    name: str, tensors: str, batch: int, backend: Backend, onnx: bytes, python: str,
    more: str = "", versions: tuple[int, ...] = (1,), beside: dict[str, str] | None = None,
) -> ModelFiles:  # fmt: skip
    which = 'platform: "onnxruntime_onnx"' if backend == "onnx" else 'backend: "python"'
    file = ("model.onnx", onnx) if backend == "onnx" else ("model.py", python.encode())
    config = _config(name, which, batch, tensors, more)
    return ModelFiles(name, config, dict.fromkeys(versions, file), beside or {})


def _python(name: str, source: str, tensors: str, batch: int, more: str) -> ModelFiles:
    config = _config(name, 'backend: "python"', batch, tensors, more)
    return ModelFiles(name, config, {1: ("model.py", source.encode())})


def _config(name: str, which: str, batch: int, tensors: str, more: str) -> str:
    instance = "" if "ensemble" in which else "instance_group { kind: KIND_CPU count: 1 }"
    lines = [f'name: "{name}"', which, f"max_batch_size: {batch}", *tensors.splitlines(), instance,
             *more.splitlines()]  # fmt: skip
    return "\n".join(line.removeprefix("        ") for line in lines if line.strip()) + "\n"
