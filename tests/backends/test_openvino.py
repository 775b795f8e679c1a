"""OpenVINO: IR and ONNX read by it give what ONNX Runtime and numpy say."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import openvino.opset13 as ops
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from backends.onnx_models import add, centred, graph, identity, node, running_sum, two_outputs
from backends.test_onnxruntime import as_many, branches, extremes, steps
from inferd.backends.base import OpenOptions
from inferd.backends.registry import create_backend
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import BackendError, ConfigError, InvalidRequest, Unsupported
from inferd.types.datatype import BYTES, DATATYPES, DataType
from inferd.types.tensor import Array

EXACT = {"precision": "f32"}
NARROWED = ("INT64", "UINT64", "UINT32", "FP64")
HAS_BF16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def opened(path: Path, threads: int = 1, **config: Any) -> Any:
    return create_backend("openvino").open(path, ModelConfig(**config), OpenOptions(threads))


def saved(data: bytes, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return path


def ir(data: bytes, folder: Path) -> Path:
    """The same model as OpenVINO's own files."""
    path = folder / "model.xml"
    ov.save_model(ov.Core().read_model(data), path, compress_to_fp16=False)
    return path


def digits_net() -> tuple[bytes, Array, Array]:
    """A network trained on scikit-learn's digits, some rows, and what scikit-learn says of them."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    net = MLPClassifier((32,), max_iter=15, random_state=0, tol=1)
    net.fit(x, y)
    (first, second), (bias, out) = net.coefs_, net.intercepts_
    data = graph(
        [
            node("Gemm", ["x", "w1", "b1"], ["h"]), node("Relu", ["h"], ["r"]),
            node("Gemm", ["r", "w2", "b2"], ["z"]), node("Softmax", ["z"], ["y"], axis=-1),
        ],
        [("x", "FP32", ("n", 64))],
        [("y", "FP32", ("n", 10))],
        w1=first.astype(np.float32), b1=bias.astype(np.float32),
        w2=second.astype(np.float32), b2=out.astype(np.float32),
    )  # fmt: skip
    return data, x, net.predict_proba(x)


@pytest.mark.filterwarnings("ignore:Training interrupted", "ignore:Stochastic Optimizer")
@pytest.mark.parametrize("form", [saved, ir])
def test_predictions_are_those_of_the_network(form: Any, tmp_path: Path) -> None:
    data, x, wanted = digits_net()
    model = opened(form(data, tmp_path), parameters=EXACT)
    (given,), (told,) = model.description.inputs, model.description.outputs
    assert (given.name, given.shape, told.name, told.shape) == ("x", (-1, 64), "y", (-1, 10))
    assert model.description.max_batch_size == 64
    assert "computed in f32" in model.description.notes
    instance = model.create_instance()
    (found,) = instance.run([x[:64]])
    np.testing.assert_allclose(found, wanted[:64], rtol=1e-4, atol=1e-6)
    alone = np.concatenate([instance.run([x[n : n + 1]])[0] for n in range(9)])
    np.testing.assert_allclose(alone, wanted[:9], rtol=1e-4, atol=1e-6)
    rounded = opened(form(data, tmp_path)).create_instance().run([x])[0]
    assert (rounded.argmax(1) == wanted.argmax(1)).mean() > 0.98
    instance.close()
    model.close()


@pytest.mark.skipif(not HAS_BF16, reason="this processor multiplies no bfloat16")
def test_what_bfloat16_costs_is_measured_and_noted(tmp_path: Path) -> None:
    path = saved(product(), tmp_path)
    (note,) = (n for n in opened(path).description.notes if n.startswith("computed in"))
    assert "bf16 (parameter precision: f32 for exact); on made-up rows up to 0." in note


def product() -> bytes:
    weights = np.random.default_rng(0).random((16, 4), np.float32)
    ends = [("x", "FP32", ("n", 16))], [("y", "FP32", ("n", 4))]
    return graph([node("MatMul", ["x", "w"], ["y"])], *ends, w=weights)


@pytest.mark.parametrize("kind", [k for k in DATATYPES.values() if k is not BYTES], ids=str)
def test_datatypes_go_through_a_model(kind: DataType, tmp_path: Path) -> None:
    model = opened(saved(identity(kind.name, ("n", "m")), tmp_path), parameters=EXACT)
    for spec in (*model.description.inputs, *model.description.outputs):
        assert (spec.datatype, spec.shape) == (kind, (-1, -1))
    narrowed = kind.name in NARROWED
    assert any("in 32 bits" in note for note in model.description.notes) is narrowed
    sent = extremes(kind) if not narrowed else np.array([[0, 1, 7, 2**31 - 1]], kind.dtype)
    sent.flags.writeable = False
    instance = model.create_instance()
    (found,) = instance.run([sent])
    assert (found.dtype, found.tolist()) == (kind.dtype, sent.tolist())
    assert instance.run([sent.T])[0].tolist() == sent.T.tolist()
    (none,) = instance.run([np.empty((0, 4), kind.dtype)])
    assert (none.dtype, none.shape) == (kind.dtype, (0, 4))


def test_answers_are_not_overwritten_by_the_next(tmp_path: Path) -> None:
    instance = opened(saved(add(1), tmp_path)).create_instance()
    first = instance.run([np.zeros((1, 2), np.float32)])[0]
    instance.run([np.full((1, 2), 5, np.float32)])
    instance.close()
    assert first.tolist() == [[1, 1]]


def test_tensors_are_those_configured_in_their_order(tmp_path: Path) -> None:
    outputs = (
        ModelOutput(name="whole", data_type="TYPE_INT64", dims=(4,)),
        ModelOutput(name="sum", data_type="TYPE_FP32", dims=(1,)),
    )
    model = opened(saved(two_outputs(), tmp_path), output=outputs, parameters=EXACT)
    found = model.create_instance().run([np.array([[1.5, 2, 3, 4]], np.float32)])
    assert [array.tolist() for array in found] == [[[1, 2, 3, 4]], [[10.5]]]


def test_a_configuration_that_contradicts_the_model_names_its_field(tmp_path: Path) -> None:
    wrong = (ModelInput(name="x", data_type="TYPE_INT8", dims=(2,)),)
    with pytest.raises(ConfigError, match="the model has TYPE_FP32"):
        opened(saved(add(1), tmp_path), input=wrong)


@pytest.mark.parametrize(
    ("data", "size"),
    [(identity(), 64), (identity(shape=(3, 4)), 0), (centred(), 0), (running_sum(), 0)],
)
def test_batches_are_chosen_where_rows_do_not_depend_on_each_other(
    data: bytes, size: int, tmp_path: Path
) -> None:
    assert opened(saved(data, tmp_path)).description.max_batch_size == size


@pytest.mark.parametrize(
    ("data", "steady"),
    [(identity(), True), (two_outputs(), True), (steps(), False), (branches(), False),
     (as_many(), False)],
    ids=["identity", "two outputs", "Loop", "If", "Range"],
)  # fmt: skip
def test_a_model_whose_values_decide_how_long_it_runs_is_not_steady(
    data: bytes, steady: bool, tmp_path: Path
) -> None:
    assert opened(saved(data, tmp_path), max_batch_size=0).description.steady is steady


@pytest.mark.parametrize("from_input", [True, False])
def test_nor_is_one_whose_values_decide_how_large_its_output_is(
    from_input: bool, tmp_path: Path
) -> None:
    x = ops.parameter([-1, 4], np.float32, name="x")
    repeats = ops.parameter([2], np.int64, name="repeats")
    counts = repeats if from_input else ops.constant(np.array([1, 2], np.int64))
    inputs = [x, repeats] if from_input else [x]
    ov.save_model(ov.Model([ops.tile(x, counts)], inputs, "tiled"), tmp_path / "model.xml")
    description = opened(tmp_path / "model.xml", max_batch_size=0).description
    assert description.steady is not from_input


def test_instances_and_lanes_run_side_by_side(tmp_path: Path) -> None:
    model = opened(saved(add(1), tmp_path), threads=2)
    runners = [model.create_instance(), model.create_instance(), *model.create_lanes()]
    assert len(runners) == 4

    def twenty(number: int) -> list[float]:
        sent = np.full((1, 2), number, np.float32)
        return [float(runners[number].run([sent])[0][0, 0]) for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(twenty, range(4))) == [[n + 1.0] * 20 for n in range(4)]
    for runner in runners:
        runner.close()
    model.close()
    assert opened(saved(add(1), tmp_path)).create_lanes() == []


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
@pytest.mark.parametrize("data", [b"", b"not a model", add(1)[:-30], b"<?xml><net name='x'"])
def test_a_file_that_is_no_model_is_a_backend_error(
    name: str, data: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(BackendError, match=f"OpenVINO cannot load {name}"):
        opened(path)
    assert capfd.readouterr().err == ""


def test_weights_that_are_missing_or_cut_are_a_backend_error(tmp_path: Path) -> None:
    path = ir(product(), tmp_path)
    weights = path.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(BackendError, match="Incorrect weights in bin file"):
        opened(path)
    weights.unlink()
    with pytest.raises(BackendError, match="bin file cannot be found"):
        opened(path)
    shutil.move(path, tmp_path / "other.xml")
    with pytest.raises(BackendError, match=r"cannot load model\.xml"):
        opened(path)


def test_text_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="tensor 'x' has type string"):
        opened(saved(identity("BYTES"), tmp_path))


def test_a_tensor_of_any_rank_is_unsupported(tmp_path: Path) -> None:
    given = ops.parameter(ov.PartialShape.dynamic(), np.float32, name="x")
    path = tmp_path / "model.xml"
    ov.save_model(ov.Model([ops.relu(given)], [given]), path)
    with pytest.raises(Unsupported, match="tensor 'x' has any number of dimensions"):
        opened(path)


def beside(data: bytes, folder: Path) -> Path:
    """An ONNX model with its weights in `model.bin`."""
    path = folder / "model.onnx"
    model = onnx.load_from_string(data)
    options = {"save_as_external_data": True, "location": "model.bin", "size_threshold": 0}
    onnx.save(model, path, **options)
    return path


@pytest.mark.parametrize("form", [ir, beside])
def test_weights_that_change_on_disk_do_not_change_the_model(form: Any, tmp_path: Path) -> None:
    path = form(product(), tmp_path)
    model = opened(path, parameters=EXACT)
    rows = [np.ones((1, 16), np.float32)]
    wanted = model.create_instance().run(rows)[0]
    with path.with_suffix(".bin").open("r+b") as file:
        file.write(bytes(256))
    assert model.create_instance().run(rows)[0].tolist() == wanted.tolist()


def test_a_shape_that_does_not_fit_is_an_invalid_request(tmp_path: Path) -> None:
    instance = opened(saved(identity(), tmp_path)).create_instance()
    with pytest.raises(InvalidRequest, match="are incompatible"):
        instance.run([np.zeros((1, 5), np.float32)])


@pytest.mark.parametrize("name", ["precision", "INFERENCE_NUM_THREADS"])
def test_a_parameter_that_is_none_names_its_field(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is 'much', expected") as caught:
        opened(saved(add(1), tmp_path), parameters={name: "much"})
    assert caught.value.field == f"parameters.{name}"


@pytest.mark.skipif("GPU" in ov.Core().available_devices, reason="there is a GPU here")
def test_a_gpu_that_is_not_there_names_its_field(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="finds no GPU"):
        opened(saved(add(1), tmp_path), instance_group=(ModelInstanceGroup(kind="KIND_GPU"),))
