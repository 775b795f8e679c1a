"""ONNX accumulators for tests: what a sequence model gives says which requests were added, and what
it was told of them. It refuses to know servers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MAX_BATCH_SIZE = 8


def control(name: str, said: str, no: object, yes: object) -> dict[str, Any]:
    """A control input of the kind that its name says."""
    return {"name": name, "control": [{"kind": f"CONTROL_SEQUENCE_{name}", said: [no, yes]}]}


CONTROLS = [
    control("START", "int32_false_true", 0, 1),
    control("READY", "fp32_false_true", 0, 1),
    control("END", "bool_false_true", False, True),
]


def corrid(data_type: str) -> dict[str, Any]:
    """The control input that tells the correlation id."""
    return {
        "name": "CORRID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": data_type}],
    }  # fmt: skip


PBTXT = """
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  oldest { max_candidate_sequences: 4 max_queue_delay_microseconds: 100 }
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END bool_false_true: [ false, true ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] }
  ]
  state [
    {
      input_name: "total_in" output_name: "total" data_type: TYPE_FP32 dims: [ 1 ]
      initial_state: { name: "none" data_type: TYPE_FP32 dims: [ 1 ] zero_data: true }
    }
  ]
}
"""
"""The same in Triton's own form, with one output only."""

STATE = {
    "input_name": "total_in", "output_name": "total", "data_type": "TYPE_FP32", "dims": [1],
    "initial_state": [
        {"name": "none", "data_type": "TYPE_FP32", "dims": [1], "zero_data": True},
    ],
}  # fmt: skip
X = {"name": "x", "data_type": "TYPE_FP32", "dims": [1]}


def accumulator(id_type: int, batched: bool = True) -> bytes:
    """y is x on top of the state, told is what the controls say, id the correlation id; the state
    forgets all before a START, so that what the server gives as the first does not show."""
    lead: list[str | int] = ["n", 1] if batched else [1]
    nodes = [
        helper.make_node("Add", ["x", "total_in"], ["total"]),
        helper.make_node("Identity", ["total"], ["y"]),
        helper.make_node("Cast", ["START"], ["s"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["END"], ["e"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["s", "READY", "e"], ["told"], axis=len(lead) - 1),
        helper.make_node("Identity", ["CORRID"], ["id"]),
    ]
    given = [
        ("x", TensorProto.FLOAT), ("START", TensorProto.INT32), ("READY", TensorProto.FLOAT),
        ("END", TensorProto.BOOL), ("CORRID", id_type), ("total_in", TensorProto.FLOAT),
    ]  # fmt: skip
    told = [*lead[:-1], 3]
    results = [
        ("y", TensorProto.FLOAT, lead), ("told", TensorProto.FLOAT, told), ("id", id_type, lead),
        ("total", TensorProto.FLOAT, lead),
    ]  # fmt: skip
    return _model(
        nodes,
        [helper.make_tensor_value_info(name, kind, lead) for name, kind in given],
        [helper.make_tensor_value_info(*result) for result in results],
    )


def counter() -> bytes:
    """A model without control inputs, whose state and texts are all there is: n is how often the
    sequence was asked, from what the initial state says on."""
    nodes = [
        helper.make_node("Add", ["seen", "one"], ["seen_out"]),
        helper.make_node("Add", ["x", "seen_out"], ["n"]),
    ]
    value = helper.make_tensor_value_info
    return _model(
        nodes,
        [value("seen", TensorProto.INT64, ["n", 2]), value("x", TensorProto.INT64, ["n", 2])],
        [value("n", TensorProto.INT64, ["n", 2]), value("seen_out", TensorProto.INT64, ["n", 2])],
        [numpy_helper.from_array(np.array(1, np.int64), "one")],
    )


def _model(
    nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], constants: Any = ()
) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def write_sequence_models(root: Path) -> Path:
    """`direct`, `oldest`, `apart` (in a worker), `texts` (its ids are strings), `single` (without
    batches), `triton` (in a config.pbtxt),
    `counter` (whose state begins in a file) and `brief` (one slot, and a sequence may be
    silent for 50 ms)."""
    integers, texts = accumulator(TensorProto.UINT64), accumulator(TensorProto.STRING)
    told = {"control_input": [*CONTROLS, corrid("TYPE_UINT64")], "state": [STATE]}
    minute = {"max_sequence_idle_microseconds": 60_000_000}
    oldest = {"oldest": {"max_candidate_sequences": 64, "preferred_batch_size": [4]}}
    text_ids = {**told, "control_input": [*CONTROLS, corrid("TYPE_STRING")]}
    write(root, "direct", integers, {**told, **minute, "direct": {}}, instances=2)
    write(root, "oldest", integers, {**told, **minute, **oldest}, instances=2)
    write(root, "apart", integers, {**told, **minute, "direct": {}}, isolation="process")
    write(root, "texts", texts, {**text_ids, **minute, **oldest})
    single = accumulator(TensorProto.UINT64, batched=False)
    write(root, "single", single, {**told, **minute}, max_batch_size=0)
    write(root, "brief", integers, {**told, "max_sequence_idle_microseconds": 50_000},
          max_batch_size=1)  # fmt: skip
    write(root, "triton", integers, {})
    (root / "triton" / "config.yaml").unlink()
    (root / "triton" / "config.pbtxt").write_text(PBTXT)
    state = {
        "input_name": "seen", "output_name": "seen_out", "data_type": "TYPE_INT64", "dims": [2],
        "initial_state": [
            {"name": "tens", "data_type": "TYPE_INT64", "dims": [2], "data_file": "tens"},
        ],
    }  # fmt: skip
    outputs = [{"name": name, "data_type": "TYPE_INT64", "dims": [2]} for name in ("n", "seen_out")]
    write(root, "counter", counter(), {"state": [state]}, output=outputs)
    (root / "counter" / "initial_state").mkdir()
    (root / "counter" / "initial_state" / "tens").write_bytes(np.array([10, 20]).tobytes())
    return root


def write(
    root: Path, name: str, data: bytes, batching: dict[str, Any], instances: int = 1,
    max_batch_size: int = MAX_BATCH_SIZE, **more: Any,
) -> None:  # fmt: skip
    """A model's folder."""
    folder = root / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(data)
    config = {
        "name": name, "max_batch_size": max_batch_size, "sequence_batching": batching,
        "instance_group": [{"count": instances, "kind": "KIND_CPU"}], **more,
    }  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps(config))
