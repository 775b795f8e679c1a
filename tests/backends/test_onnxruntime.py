from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from backends.onnx_models import add, centred, graph, identity, node, running_sum, two_outputs
from inferd.backends.base import Model, OpenOptions
from inferd.backends.onnxruntime import OnnxRuntimeBackend, providers_on
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.optimization import ModelOptimization, OptimizationGraph
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import BackendError, ConfigError, InvalidRequest, Unsupported
from inferd.types.datatype import BF16, BYTES, DATATYPES, DataType
from inferd.types.tensor import Array


def opened(data: bytes, folder: Path, config: ModelConfig | None = None, threads: int = 1) -> Model:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return OnnxRuntimeBackend().open(path, config or ModelConfig(), OpenOptions(threads))


def run(data: bytes, folder: Path, *inputs: Array) -> list[Array]:
    instance = opened(data, folder).create_instance()
    try:
        return instance.run(list(inputs))
    finally:
        instance.close()


def strings(*values: bytes) -> Array:
    array = np.empty((1, len(values)), object)
    array[0] = values
    return array


def extremes(kind: DataType) -> Array:
    """Four values of a datatype, among them its extremes."""
    if kind is BYTES:
        return strings(b"", b"a", "é€😀".encode(), b"x" * 1000)
    if kind is BF16:
        return np.array([[0x3F80, 0xFF80, 0x0001, 0x7FC0]], np.uint16)  # 1, -inf, tiny, nan
    if kind.dtype.kind == "f":
        info = np.finfo(kind.dtype)  # type: ignore[type-var]
        return np.array([[0, info.max, info.tiny, -np.inf]], kind.dtype)
    if kind.dtype.kind == "b":
        return np.array([[True, False, True, True]])
    whole = np.iinfo(kind.dtype)  # type: ignore[type-var]
    return np.array([[0, 1, whole.min, whole.max]], kind.dtype)


@pytest.mark.parametrize("kind", DATATYPES.values(), ids=lambda k: k.name)
def test_every_datatype_goes_through_a_model_unharmed(kind: DataType, tmp_path: Path) -> None:
    sent = extremes(kind)
    (found,) = run(identity(kind.name), tmp_path, sent)
    assert found.dtype == kind.dtype
    assert found.shape == (1, 4)
    assert found.tolist() == sent.tolist()


@pytest.mark.parametrize("kind", DATATYPES.values(), ids=lambda k: k.name)
def test_every_datatype_without_rows(kind: DataType, tmp_path: Path) -> None:
    (found,) = run(identity(kind.name), tmp_path, np.empty((0, 4), kind.dtype))
    assert (found.dtype, found.shape) == (kind.dtype, (0, 4))


@pytest.mark.parametrize("kind", DATATYPES.values(), ids=lambda k: k.name)
def test_every_datatype_is_described(kind: DataType, tmp_path: Path) -> None:
    found = opened(identity(kind.name, ("n", "m", 3)), tmp_path).description
    for spec, name in ((found.inputs[0], "x"), (found.outputs[0], "y")):
        assert (spec.name, spec.datatype, spec.shape) == (name, kind, (-1, -1, 3))
    assert found.platform == "onnxruntime_onnx"
    assert found.backend == "onnxruntime"


def test_arrays_that_are_not_contiguous_are_read_in_order(tmp_path: Path) -> None:
    for kind in ("FP32", "BF16"):
        sent = np.arange(8).reshape(4, 2).astype(DATATYPES[kind].dtype).T
        assert run(identity(kind), tmp_path, sent)[0].tolist() == sent.tolist()


def test_bf16_is_computed_with(tmp_path: Path) -> None:
    cast = graph(
        [node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        [("x", "BF16", ("n", 2))],
        [("y", "FP32", ("n", 2))],
    )
    (found,) = run(cast, tmp_path, np.array([[0x3FC0, 0xC000]], np.uint16))
    assert found.tolist() == [[1.5, -2.0]]


def strings_beside(kind: str) -> bytes:
    return graph(
        [node("Identity", ["a"], ["b"]), node("Identity", ["x"], ["y"])],
        [("a", "BYTES", ("n", 1)), ("x", kind, ("n", 1))],
        [("b", "BYTES", ("n", 1)), ("y", kind, ("n", 1))],
    )


def test_strings_and_numbers_in_one_model(tmp_path: Path) -> None:
    number = np.ones((1, 1), DATATYPES["FP32"].dtype)
    found = run(strings_beside("FP32"), tmp_path, strings(b"a"), number)
    assert [array.tolist() for array in found] == [[[b"a"]], number.tolist()]


def test_strings_beside_bf16_are_refused_when_the_model_is_opened(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="both BF16 and string"):
        opened(strings_beside("BF16"), tmp_path)


def test_outputs_are_those_configured_in_their_order(tmp_path: Path) -> None:
    config = ModelConfig(
        output=(
            ModelOutput(name="whole", data_type="TYPE_INT64", dims=(4,)),
            ModelOutput(name="sum", data_type="TYPE_FP32", dims=(1,)),
        )
    )
    model = opened(two_outputs(), tmp_path, config)
    found = model.create_instance().run([np.array([[1.5, 2, 3, 4]], np.float32)])
    assert [array.tolist() for array in found] == [[[1, 2, 3, 4]], [[10.5]]]


def test_inputs_are_those_configured_in_their_order(tmp_path: Path) -> None:
    minus = graph(
        [node("Sub", ["a", "b"], ["y"])],
        [("a", "FP32", ("n", 1)), ("b", "FP32", ("n", 1))],
        [("y", "FP32", ("n", 1))],
    )
    config = ModelConfig(
        input=tuple(ModelInput(name=n, data_type="TYPE_FP32", dims=(1,)) for n in "ba")
    )
    instance = opened(minus, tmp_path, config).create_instance()
    one, five = np.full((1, 1), 1, np.float32), np.full((1, 1), 5, np.float32)
    assert instance.run([one, five])[0].tolist() == [[4]]


# -- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (identity(), 64), (identity("BYTES"), 64), (two_outputs(), 64), (identity(shape=(3, 4)), 0),
        (centred(), 0), (running_sum(), 0), (running_sum("INT64", ("n", 1)), 0),
        (running_sum("INT64", ("n",)), 0), (centred("FP16"), 0),
    ],
)  # fmt: skip
def test_batches_are_chosen_where_rows_do_not_depend_on_each_other(
    data: bytes, size: int, tmp_path: Path
) -> None:
    found = opened(data, tmp_path).description
    assert found.max_batch_size == size
    assert any("batch" in note for note in found.notes)


def test_the_configurations_batch_size_needs_no_probe(tmp_path: Path) -> None:
    found = opened(centred(), tmp_path, ModelConfig(max_batch_size=5)).description
    assert found.max_batch_size == 5
    assert opened(identity(), tmp_path, ModelConfig(max_batch_size=0)).description.inputs[
        0
    ].shape == (-1, 4)


def branches() -> bytes:
    """y is x, or x after some work: its values decide."""
    port = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    light = helper.make_graph([node("Identity", ["x"], ["out"])], "light", [], [port])
    heavy = helper.make_graph([node("Sinh", ["x"], ["out"])], "heavy", [], [port])
    return graph(
        [
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Cast", ["sum"], ["choice"], to=TensorProto.BOOL),
            node("If", ["choice"], ["y"], then_branch=heavy, else_branch=light),
        ],
        [("x", "FP32", ("n", 4))],
        [("y", "FP32", ("n", 4))],
    )


def steps() -> bytes:
    """y is x, after as many steps as the sum of x says."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Identity", ["s"], ["t"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("t", TensorProto.FLOAT, None),
        ],
    )
    return graph(
        [
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Cast", ["sum"], ["count"], to=TensorProto.INT64),
            node("Loop", ["count", "", "x"], ["y"], body=body),
        ],
        [("x", "FP32", ("n", 4))],
        [("y", "FP32", ("n", 4))],
    )


def as_many() -> bytes:
    """y counts up to the sum of x."""
    return graph(
        [
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Range", ["zero", "sum", "one"], ["y"]),
        ],
        [("x", "FP32", ("n", 4))],
        [("y", "FP32", ("m",))],
        zero=np.array(0, np.float32),
        one=np.array(1, np.float32),
    )


@pytest.mark.parametrize(
    ("data", "steady"),
    [
        (identity(), True), (identity("BYTES"), True), (two_outputs(), True), (steps(), False),
        (branches(), False), (as_many(), False),
    ],
    ids=["identity", "strings", "two outputs", "Loop", "If", "Range"],
)  # fmt: skip
def test_a_model_whose_values_decide_how_long_it_runs_is_not_steady(
    data: bytes, steady: bool, tmp_path: Path
) -> None:
    assert opened(data, tmp_path).description.steady is steady


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"not a model", add(1)[:-30], b"\x08\x08" * 50])
def test_a_file_that_is_no_model_is_a_backend_error(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="ONNX Runtime cannot load model"):
        opened(data, tmp_path)


def test_a_file_that_is_missing_is_a_backend_error(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot load"):
        OnnxRuntimeBackend().open(tmp_path / "model.onnx", ModelConfig(), OpenOptions())


def test_a_tensor_without_a_datatype_of_the_protocol_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="tensor 'x' has type"):
        opened(identity_of_sequences(), tmp_path)


def identity_of_sequences() -> bytes:
    ports = [
        helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"
    ]
    made = helper.make_graph([node("Identity", ["x"], ["y"])], "g", [ports[0]], [ports[1]])
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString())


def test_what_the_caller_got_wrong_is_an_invalid_request(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="onnx runtime error 2"):
        run(identity(), tmp_path, np.zeros((1, 5), np.float32))


def test_a_value_that_the_model_does_not_take_is_named(tmp_path: Path) -> None:
    gather = graph(
        [node("Gather", ["table", "x"], ["y"])],
        [("x", "INT64", ("n",))],
        [("y", "FP32", ("n",))],
        table=np.zeros(3, np.float32),
    )
    with pytest.raises((InvalidRequest, BackendError), match="indices element out of data bounds"):
        run(gather, tmp_path, np.array([7]))


def test_bytes_that_are_no_text_are_an_invalid_request(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="input 'x' has an element that is not UTF-8 text"):
        run(identity("BYTES"), tmp_path, strings(b"\xff", b"", b"", b""))


@pytest.mark.parametrize("name", ["intra_op_thread_count", "inter_op_thread_count"])
@pytest.mark.parametrize("value", [2, "2", 0, "0", {"string_value": "1"}])
def test_thread_counts_may_be_set(name: str, value: object, tmp_path: Path) -> None:
    model = opened(add(1), tmp_path, ModelConfig(parameters={name: value}))
    found = model.create_instance().run([np.zeros((1, 2), np.float32)])
    assert found[0].tolist() == [[1, 1]]


@pytest.mark.parametrize("value", ["many", -1, 1.5, ""])
def test_a_thread_count_that_is_none_names_its_field(value: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a whole number") as caught:
        opened(add(1), tmp_path, ModelConfig(parameters={"intra_op_thread_count": value}))
    assert caught.value.field == "parameters.intra_op_thread_count"


def test_every_instance_is_a_session_of_its_own(tmp_path: Path) -> None:
    model = opened(add(1), tmp_path)
    first, second = model.create_instance(), model.create_instance()
    first.close()
    assert second.run([np.zeros((1, 2), np.float32)])[0].tolist() == [[1, 1]]
    second.close()
    model.close()


@pytest.mark.parametrize(("threads", "count"), [(1, 0), (2, 2), (4, 4), (16, 4)])
def test_lanes_share_the_cores_of_one_instance(threads: int, count: int, tmp_path: Path) -> None:
    model = opened(add(1), tmp_path, threads=threads)
    lanes = model.create_lanes()
    assert len(lanes) == count
    for lane in lanes:
        assert lane.run([np.zeros((1, 2), np.float32)])[0].tolist() == [[1, 1]]
        lane.close()
    model.close()


def test_a_thread_count_that_is_configured_is_kept_to(tmp_path: Path) -> None:
    config = ModelConfig(parameters={"intra_op_thread_count": 4})
    assert opened(add(1), tmp_path, config, threads=4).create_lanes() == []


@pytest.mark.parametrize(
    ("level", "name"),
    [(-1, "BASIC"), (0, "ENABLE_ALL"), (1, "EXTENDED"), (2, "DISABLE_ALL")],
)
def test_a_graph_may_be_rewritten_less(level: int, name: str, tmp_path: Path) -> None:
    config = ModelConfig(optimization=ModelOptimization(graph=OptimizationGraph(level=level)))
    model: Any = opened(identity(), tmp_path, config)
    assert model.create_instance()._session.get_session_options().graph_optimization_level.name == (
        f"ORT_{name}" if "ABLE" in name else f"ORT_ENABLE_{name}"
    )


def test_an_unknown_level_is_refused(tmp_path: Path) -> None:
    config = ModelConfig(optimization=ModelOptimization(graph=OptimizationGraph(level=3)))
    with pytest.raises(ConfigError, match=r"optimization\.graph\.level: is 3, expected"):
        opened(identity(), tmp_path, config)


def test_batches_are_as_large_as_the_server_says_where_the_model_does_not(tmp_path: Path) -> None:
    said = ModelConfig(parameters={"default-max-batch-size": "3"})
    assert opened(identity(), tmp_path, said).description.max_batch_size == 3
    own = ModelConfig(parameters={"default-max-batch-size": "3"}, max_batch_size=5)
    assert opened(identity(), tmp_path, own).description.max_batch_size == 5


def test_a_session_on_a_gpu_names_it_and_falls_back_on_the_cpu() -> None:
    assert providers_on("cpu") == providers_on("") == ["CPUExecutionProvider"]
    for device, number in (("cuda", 0), ("cuda:3", 3)):
        assert providers_on(device) == [
            ("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider",
        ]  # fmt: skip


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this one has CUDA"
)
def test_a_gpu_needs_a_runtime_with_cuda(tmp_path: Path) -> None:
    groups = (ModelInstanceGroup(gpus=(0,)),)
    with pytest.raises(ConfigError, match="needs an ONNX Runtime with CUDA"):
        opened(identity(), tmp_path, ModelConfig(instance_group=groups))
