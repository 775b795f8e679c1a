"""The Triton repositories that are served: configurations as text, models in Python and ONNX.

`PYTHON` holds what Triton's Python backend runs, for both servers; `ONNX` what inferd alone is
asked, since Triton's package brings no ONNX Runtime.
"""

import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from benchmarks.models import Graph

ACCUMULATE = Path(__file__).with_name("accumulate.py")
IDENTITY = Path(__file__).parents[1] / "peers" / "triton" / "model.py"
WIDTH = 16
LARGE = 1 << 22
"""Floats of the large tensor: 16 MiB."""
SEQUENCES = 1000
STEPS = 4

TENSORS = """
input {{ name: "x", data_type: TYPE_FP32, dims: [ {width} ] }}
output {{ name: "y", data_type: TYPE_FP32, dims: [ {width} ] }}
"""
PYTHON_MODEL = 'backend: "python"\ninstance_group { kind: KIND_CPU, count: 1 }\n'
BATCHED = "max_batch_size: 64\ndynamic_batching { }\n"
SEQUENCE_BATCHING = """
sequence_batching {{
  max_sequence_idle_microseconds: 60000000
  control_input {{ name: "START"
    control {{ kind: CONTROL_SEQUENCE_START, int32_false_true: [ 0, 1 ] }} }}
  {more}
  oldest {{ max_candidate_sequences: 1024 }}
}}
"""
CORRELATION_ID = """control_input { name: "CORRID"
    control { kind: CONTROL_SEQUENCE_CORRID, data_type: TYPE_UINT64 } }"""
STATE = """state {
    input_name: "sum", output_name: "sum_after", data_type: TYPE_FP32, dims: [ 16 ] }"""
ENSEMBLE = """
platform: "ensemble"
max_batch_size: 64
ensemble_scheduling {{
  step {{ model_name: "{first}", model_version: -1
    input_map {{ key: "x", value: "x" }} output_map {{ key: "y", value: "between" }} }}
  step {{ model_name: "{second}", model_version: -1
    input_map {{ key: "x", value: "between" }} output_map {{ key: "y", value: "y" }} }}
}}
"""
SMALL = TENSORS.format(width=WIDTH)
ONNX_MODEL = 'platform: "onnxruntime_onnx"\n' + BATCHED

PYTHON = {
    "identity": PYTHON_MODEL + BATCHED + SMALL,
    "identity_plain": PYTHON_MODEL + "max_batch_size: 0\n" + TENSORS.format(width=f"1, {WIDTH}"),
    "identity_again": PYTHON_MODEL + BATCHED + SMALL,
    "identity_twice": ENSEMBLE.format(first="identity", second="identity_again") + SMALL,
    "large": PYTHON_MODEL + "max_batch_size: 0\n" + TENSORS.format(width=LARGE),
    "accumulate": PYTHON_MODEL
    + "max_batch_size: 64\n"
    + SMALL
    + SEQUENCE_BATCHING.format(more=CORRELATION_ID),
    "accumulate_alone": PYTHON_MODEL + BATCHED + SMALL,
}
ONNX = {
    "mlp": ONNX_MODEL + SMALL,
    "mlp_again": ONNX_MODEL + SMALL,
    "mlp_twice": ENSEMBLE.format(first="mlp", second="mlp_again") + SMALL,
    "sums": ONNX_MODEL.replace("dynamic_batching { }", "")
    + SMALL
    + SEQUENCE_BATCHING.format(more=STATE),
    "sums_alone": ONNX_MODEL + SMALL,
}


def write_python(folder: Path) -> Path:
    """Writes the repository of Python models, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, config in PYTHON.items():
        version = _written(folder / name, config)
        if "ensemble" not in config:
            source = ACCUMULATE if name.startswith("accumulate") else IDENTITY
            shutil.copyfile(source, version / "model.py")
    return folder


def write_onnx(folder: Path) -> Path:
    """Writes the repository of ONNX models, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, config in ONNX.items():
        version = _written(folder / name, config)
        if name.startswith("sums"):
            _write_sums(version / "model.onnx", stateful=name == "sums")
        elif "ensemble" not in config:
            _write_mlp(version / "model.onnx")
    return folder


def _written(folder: Path, config: str) -> Path:
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config)
    return folder / "1"


def _rows(name: str, width: int = WIDTH, type: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, type, ["batch", width])


def _write_mlp(path: Path) -> None:
    graph = Graph()
    hidden = graph.add("Relu", graph.linear("x", WIDTH, 64))
    graph.add("Identity", graph.linear(hidden, 64, WIDTH), output="y")
    graph.save(path, _rows("x"), _rows("y"))


def _write_sums(path: Path, stateful: bool) -> None:
    """`y` is what came so far: the sum kept as state, unless the sequence starts here; or, of the
    model without sequences, the request alone, through as many operators."""
    nodes = [
        helper.make_node("Cast", ["START"], ["starts"], to=TensorProto.BOOL),
        helper.make_node("Sub", ["x", "x"], ["nothing"]),
        helper.make_node("Where", ["starts", "nothing", "sum"], ["before"]),
        helper.make_node("Add", ["before", "x"], ["y"]),
        helper.make_node("Identity", ["y"], ["sum_after"]),
    ]
    inputs = [_rows("x"), _rows("sum"), _rows("START", 1, TensorProto.INT32)]
    outputs = [_rows("y"), _rows("sum_after")]
    if not stateful:
        nodes, inputs, outputs = (
            [helper.make_node("Add", ["x", "x"], ["y"])],
            inputs[:1],
            outputs[:1],
        )
    graph = helper.make_graph(nodes, path.stem, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
