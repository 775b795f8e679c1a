"""TorchScript and exported programs on scikit-learn's digits: what is served is what torch says."""

import pickle
import threading
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from inferd.backends.base import OpenOptions
from inferd.backends.registry import create_backend, open_model
from inferd.backends.torch import placed
from inferd.backends.torch_examples import traced_inputs
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.scheduling import BatchInput, BatchOutput, ModelInstanceGroup
from inferd.errors import BackendError, ConfigError, Unsupported
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10), torch.nn.Softmax(-1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Two(torch.nn.Module):
    """Two arguments, two results in a dictionary, one argument that may be left out."""

    def forward(
        self, x: torch.Tensor, ids: torch.Tensor, scale: float = 2.0
    ) -> dict[str, torch.Tensor]:
        return {"scaled": x * scale, "count": ids.sum(1)}


class Pair(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


class Bounds(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Pair:
        return Pair(x.amin(1), x.amax(1))


class Cast(torch.nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.dtype)


class Centred(torch.nn.Module):
    """Rows of a batch depend on each other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0)


class InPlace(torch.nn.Module):
    """It saves memory, that of its caller."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.size(1) > 0:
            x -= 1
        return x.relu_() * 2


class Steps(torch.nn.Module):
    """Values decide how long it runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x.sum().item())):
            x = x + 1
        return x


@pytest.fixture(scope="module")
def digits() -> tuple[Net, torch.Tensor]:
    """A net that was trained for a moment, and the rows that it was trained on."""
    data = load_digits()
    x = torch.tensor(data.data / 16, dtype=torch.float32)
    wanted = torch.tensor(data.target)
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(net(x).log(), wanted).backward()
        optimizer.step()
    assert (net(x).argmax(1) == wanted).float().mean() > 0.8
    return net.eval(), x


def traced(module: torch.nn.Module, path: Path, *example: torch.Tensor) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module.eval(), example, strict=False).save(str(path))
    return path


def scripted(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module.eval()).save(str(path))
    return path


def exported(module: torch.nn.Module, path: Path, *example: torch.Tensor, **dims: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), example, dynamic_shapes=dims or None)
        torch.export.save(program, path)
    return path


def opened(path: Path, threads: int = 1, trust: bool = True, **config: Any) -> Any:
    options = OpenOptions(threads, trust)
    return create_backend("torch").open(path, ModelConfig(**config), options)


def given(name: str, kind: str, *dims: int) -> ModelInput:
    return ModelInput(name=name, data_type=f"TYPE_{kind}", dims=dims)  # type: ignore[arg-type]


def as_script(net: Net, folder: Path) -> Any:
    config = {"input": (given("INPUT__0", "FP32", 64),)}
    return opened(scripted(net, folder / "model.pt"), **config)


def as_trace(net: Net, folder: Path) -> Any:
    return opened(traced(net, folder / "model.pt", torch.ones(5, 64)))


def as_export(net: Net, folder: Path) -> Any:
    rows = torch.export.Dim("rows", min=1, max=4096)
    return opened(exported(net, folder / "model.pt2", torch.ones(5, 64), x={0: rows}))


@pytest.mark.parametrize("served", [as_script, as_trace, as_export])
def test_predictions_are_those_of_the_network(
    served: Callable[[Net, Path], Any], digits: tuple[Net, torch.Tensor], tmp_path: Path
) -> None:
    net, x = digits
    with torch.inference_mode():
        wanted = net(x).numpy()
    model = served(net, tmp_path)
    (one,), (two,) = model.description.inputs, model.description.outputs
    assert (one.datatype.name, one.shape, two.datatype.name) == ("FP32", (-1, 64), "FP32")
    assert (two.name, two.shape, model.description.max_batch_size) == ("OUTPUT__0", (-1, 10), 64)
    assert model.description.steady
    instance = model.create_instance()
    (found,) = instance.run([x.numpy()])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    alone = np.concatenate([instance.run([x.numpy()[n : n + 1]])[0] for n in range(9)])
    np.testing.assert_allclose(alone, wanted[:9], rtol=1e-5, atol=1e-7)
    instance.close()
    model.close()


# -- what a file says, and what a configuration says -----------------------------------------------


class Counted(torch.nn.Module):
    """Elements of several requests behind one another, each times how many its request has."""

    def forward(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        return x * torch.repeat_interleave(n, n.to(torch.int64))


def test_script_is_tried_with_ragged_inputs_that_fit_together(tmp_path: Path) -> None:
    """It does not say what it returns: that is found out with a batch that could be."""
    config = ModelConfig(
        max_batch_size=8,
        input=(ModelInput(name="x", data_type="TYPE_FP32", dims=(-1,), allow_ragged_batch=True),),
        output=(ModelOutput(name="y", data_type="TYPE_FP32", dims=(-1,)),),
        batch_input=(
            BatchInput(
                kind="BATCH_ELEMENT_COUNT", target_name=("n",), data_type="TYPE_FP32",
                source_input=("x",),
            ),
        ),
        batch_output=(BatchOutput(target_name=("y",), source_input=("x",)),),
    )  # fmt: skip
    model = open_model("torch", scripted(Counted(), tmp_path / "m.pt"), config, OpenOptions(1))
    assert [spec.name for spec in model.description.inputs] == ["x"]
    layout = model.description.layout
    assert layout is not None
    requests = [[np.ones((1, 3), np.float32)], [np.ones((1, 2), np.float32)]]
    outputs = model.create_instance().run(layout.merge(requests))
    parts = layout.split(outputs, requests, [1, 1])
    assert [part[0].tolist() for part in parts] == [[[3, 3, 3]], [[2, 2]]]


def test_names_of_arguments_and_of_a_dictionary(tmp_path: Path) -> None:
    config = {"input": (given("ids", "INT64", 3), given("x", "FP32", -1))}
    model = opened(scripted(Two(), tmp_path / "model.pt"), **config)
    found = [(s.name, s.datatype.name, s.shape) for s in model.description.outputs]
    assert found == [("scaled", "FP32", (-1, -1)), ("count", "INT64", (-1,))]
    rows = [np.array([[1, 2, 3]]), np.array([[1, 2]], np.float32)]
    scaled, count = model.create_instance().run(rows)
    assert (scaled.tolist(), count.tolist()) == ([[2, 4]], [6])


def test_tritons_names_count(tmp_path: Path) -> None:
    outputs = (ModelOutput(name="OUTPUT__1", data_type="TYPE_FP32", dims=()),)
    config = {"input": (given("INPUT__0", "FP32", 4),), "output": outputs}
    model = opened(scripted(Bounds(), tmp_path / "model.pt"), **config)
    (high,) = model.create_instance().run([np.array([[3, 1, 4, 2]], np.float32)])
    assert high.tolist() == [4]


def test_fields_of_a_named_tuple_name_results(tmp_path: Path) -> None:
    model = opened(scripted(Bounds(), tmp_path / "model.pt"), input=(given("x", "FP32", 4),))
    found = [(s.name, s.shape) for s in model.description.outputs]
    assert found == [("low", (-1,)), ("high", (-1,))]


def test_an_exported_program_says_its_names_and_shapes(tmp_path: Path) -> None:
    path = exported(Two(), tmp_path / "model.pt2", torch.ones(2, 4), torch.ones(2, 3).long())
    outputs = (ModelOutput(name="count", data_type="TYPE_INT64", dims=(2,)),)
    model = opened(path)
    described = (*model.description.inputs, *model.description.outputs)
    assert [(s.name, s.datatype.name, s.shape) for s in described] == [
        ("x", "FP32", (2, 4)), ("ids", "INT64", (2, 3)), ("scaled", "FP32", (2, 4)),
        ("count", "INT64", (2,)),
    ]  # fmt: skip
    assert model.description.max_batch_size == 0
    rows = [np.ones((2, 4), np.float32), np.arange(6).reshape(2, 3)]
    (count,) = opened(path, output=outputs).create_instance().run(rows)
    assert count.tolist() == [3, 12]


def test_rows_that_depend_on_each_other_are_not_batched(tmp_path: Path) -> None:
    found = opened(traced(Centred(), tmp_path / "model.pt", torch.ones(2, 4))).description
    assert (found.max_batch_size, found.inputs[0].shape) == (0, (2, 4))


def test_a_model_whose_values_decide_how_long_it_runs_is_not_steady(tmp_path: Path) -> None:
    path = scripted(Steps(), tmp_path / "model.pt")
    model = opened(path, threads=2, input=(given("x", "FP32", 2),), max_batch_size=0)
    assert not model.description.steady
    assert model.create_lanes() == []


def test_no_more_rows_than_a_program_was_exported_for(tmp_path: Path) -> None:
    rows = torch.export.Dim("rows", min=1, max=6)
    path = exported(Net(), tmp_path / "model.pt2", torch.ones(5, 64), x={0: rows})
    assert opened(path).description.max_batch_size == 6
    with pytest.raises(ConfigError, match="exported for 6 rows at most"):
        opened(path, max_batch_size=7)


@pytest.mark.parametrize(
    "name", ["BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64"]
)
def test_datatypes_go_through_a_model(name: str, tmp_path: Path) -> None:
    dtype = torch.bfloat16 if name == "BF16" else getattr(torch, str(DATATYPES[name].dtype))
    path = traced(Cast(dtype), tmp_path / "model.pt", torch.zeros(1, 3).to(dtype))
    model = opened(path)
    for spec in (*model.description.inputs, *model.description.outputs):
        assert spec.datatype is DATATYPES[name]
    bits = np.array([[0x3F80, 0x0001, 0xFF80]], np.uint16)
    sent = bits if name == "BF16" else np.array([[0, 1, 1]]).astype(DATATYPES[name].dtype)
    sent.flags.writeable = False
    instance = model.create_instance()
    (found,) = instance.run([sent])
    assert (found.dtype, found.tolist()) == (sent.dtype, sent.tolist())
    (none,) = instance.run([sent[:0]])
    assert none.shape == (0, 3)


def test_what_is_returned_is_not_the_callers_memory(tmp_path: Path) -> None:
    model = opened(traced(Cast(torch.float32), tmp_path / "model.pt", torch.zeros(1, 3)))
    sent = np.ones((1, 3), np.float32)
    (found,) = model.create_instance().run([sent])
    sent[:] = 7
    assert found.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("make", [traced, scripted, exported])
def test_a_model_that_computes_in_place_leaves_its_inputs(make: Any, tmp_path: Path) -> None:
    example = () if make is scripted else (torch.ones(2, 3),)
    dims = {"x": {0: torch.export.Dim("rows")}} if make is exported else {}
    config = {"input": (given("x", "FP32", 3),)} if make is scripted else {}
    model = opened(make(InPlace(), tmp_path / "model.pt", *example, **dims), **config)
    assert model.description.max_batch_size > 1
    sent = np.full((1, 3), 3, np.float32)
    (found,) = model.create_instance().run([sent])
    assert (found.tolist(), sent.tolist()) == ([[4, 4, 4]], [[3, 3, 3]])


def test_instances_and_lanes_keep_to_their_threads(
    digits: tuple[Net, torch.Tensor], tmp_path: Path
) -> None:
    net, x = digits
    model = opened(traced(net, tmp_path / "model.pt", x[:2]), threads=2)
    runners = [model.create_instance(), model.create_instance(), *model.create_lanes()]
    assert len(runners) == 4
    wanted = runners[0].run([x.numpy()[:50]])[0]
    found: dict[int, tuple[int, Array]] = {}

    def several(number: int) -> None:
        for _ in range(10):
            (answer,) = runners[number].run([x.numpy()[:50]])
        found[number] = (torch.get_num_threads(), answer)

    threads = [threading.Thread(target=several, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n][0] for n in range(4)] == [2, 2, 1, 1]
    for _, answer in found.values():
        np.testing.assert_allclose(answer, wanted, rtol=1e-5, atol=1e-7)


# -- what goes wrong ------------------------------------------------------------------------------


def test_script_that_does_not_say_its_inputs_is_told_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(scripted(Two(), tmp_path / "model.pt"))
    assert "input:\n  - {name: x, data_type: TYPE_FP32, dims: [-1, 4]}" in str(caught.value)
    assert "- {name: ids," in str(caught.value)


def test_a_name_that_is_no_argument_is_told_with_those_there_are(tmp_path: Path) -> None:
    path = scripted(Two(), tmp_path / "model.pt")
    with pytest.raises(ConfigError, match="no argument 'y'; it has: x, ids; or count them"):
        opened(path, input=(given("y", "FP32", 4),))


def test_a_configuration_that_contradicts_a_program_names_its_field(tmp_path: Path) -> None:
    path = exported(Net(), tmp_path / "model.pt2", torch.ones(5, 64))
    with pytest.raises(ConfigError, match="the model has TYPE_FP32"):
        opened(path, input=(given("x", "FP16", 5, 64),), max_batch_size=0)
    with pytest.raises(ConfigError, match="its first dimension is not free"):
        opened(path, max_batch_size=4)


def test_a_configuration_that_the_model_does_not_run_with_is_told(tmp_path: Path) -> None:
    path = scripted(Net(), tmp_path / "model.pt")
    with pytest.raises(BackendError, match="a run with made-up x failed: torch: mat1 and mat2"):
        opened(path, input=(given("x", "FP32", 63),))


@pytest.mark.parametrize("save", [torch.save, lambda o, p: p.write_bytes(pickle.dumps([1]))])
@pytest.mark.parametrize("name", ["model.pt", "model.pt2"])
def test_a_pickle_is_not_read(save: Any, name: str, tmp_path: Path) -> None:
    save(Net().state_dict(), tmp_path / name)
    with pytest.raises(BackendError, match=r"not TorchScript.*serve the module from a Python mod"):
        opened(tmp_path / name)


@pytest.mark.parametrize("data", [b"", b"not a model"])
def test_a_file_that_is_no_model_is_a_backend_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(BackendError, match=r"torch cannot load model\.pt"):
        opened(path)
    path.write_bytes(data)
    with pytest.raises(BackendError, match="it is damaged, or not of torch"):
        opened(path)


def test_inputs_that_are_packed_too_well_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/traced_inputs.pkl", bytes(64 << 20))
    tracemalloc.start()
    try:
        assert traced_inputs(path, ("x",)) is None
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_an_archive_that_python_cannot_read_is_a_backend_error(tmp_path: Path) -> None:
    path = traced(Net(), tmp_path / "model.pt", torch.ones(5, 64))
    whole = path.read_bytes()
    newer = whole.replace(b"PK\1\2\0\0\0\0", b"PK\1\2\0\0\x80\0")  # of a later zip
    assert newer != whole
    path.write_bytes(newer)
    with pytest.raises(BackendError, match="it is damaged, or not of torch: zip file version"):
        opened(path)


@pytest.mark.parametrize("kind", ["script", "export"])
def test_a_damaged_file_is_a_backend_error(kind: str, tmp_path: Path) -> None:
    make = traced if kind == "script" else exported
    path = make(Net(), tmp_path / "model.pt2", torch.ones(5, 64))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackendError, match="it is damaged"):
        opened(path)
    path.write_bytes(whole.replace(b"version", b"vershun"))
    with pytest.raises(BackendError, match=r"torch cannot load model\.pt2"):
        opened(path)


def test_an_exported_program_takes_trust(tmp_path: Path) -> None:
    path = exported(Net(), tmp_path / "model.pt", torch.ones(5, 64))
    with pytest.raises(Unsupported, match="serve it with --trust"):
        opened(path, trust=False)
    assert opened(path).description.platform == "pytorch_export"


def test_an_argument_that_is_no_tensor_is_unsupported(tmp_path: Path) -> None:
    class Words(torch.nn.Module):
        def forward(self, texts: list[str]) -> int:
            return len(texts)

    with pytest.raises(Unsupported, match=r"argument 'texts' of forward is List\[str\]"):
        opened(scripted(Words(), tmp_path / "model.pt"))


def test_a_shape_that_does_not_fit_is_an_error_without_torchs_trace(tmp_path: Path) -> None:
    instance = opened(traced(Net(), tmp_path / "model.pt", torch.ones(5, 64))).create_instance()
    with pytest.raises(BackendError, match=r"^torch: mat1 and mat2 shapes cannot be multiplied"):
        instance.run([np.zeros((1, 5), np.float32)])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_names_its_field(tmp_path: Path) -> None:
    path = traced(Net(), tmp_path / "model.pt", torch.ones(5, 64))
    with pytest.raises(ConfigError, match="torch finds none here"):
        opened(path, instance_group=(ModelInstanceGroup(kind="KIND_GPU"),))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("make", [traced, exported])
def test_on_a_gpu_the_same_is_said(make: Any, tmp_path: Path) -> None:
    path = make(Net(), tmp_path / "model.pt", torch.ones(5, 64))
    rows = [np.random.default_rng(0).random((5, 64), np.float32)]
    (wanted,) = opened(path, max_batch_size=0).create_instance().run(rows)
    model = opened(path, max_batch_size=0, instance_group=(ModelInstanceGroup(kind="KIND_GPU"),))
    (found,) = model.create_instance().run(rows)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_each_instance_is_on_the_gpu_of_its_group_and_others_take_turns() -> None:
    groups = (
        ModelInstanceGroup(kind="KIND_GPU", gpus=(1,)),
        ModelInstanceGroup(kind="KIND_CPU"),
        ModelInstanceGroup(kind="KIND_GPU", count=3),
    )
    devices = placed(ModelConfig(instance_group=groups), 2)
    assert [str(device) for device in devices] == ["cuda:1", "cpu", "cuda:0", "cuda:1", "cuda:0"]


def test_a_gpu_beyond_those_there_are_names_its_field() -> None:
    with pytest.raises(ConfigError, match="there is no GPU 2: torch finds 2") as refused:
        placed(ModelConfig(instance_group=(ModelInstanceGroup(gpus=(2,)),)), 2)
    assert refused.value.field == "instance_group.gpus"


class Sum(torch.nn.Module):
    """An accumulator of Triton's kind: a control input, and a state in and out."""

    def forward(
        self, start: torch.Tensor, x: torch.Tensor, total: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        total = x + total * (1 - start)
        return total, total * 2


def test_what_the_server_fills_of_a_sequence_is_found_among_the_arguments(tmp_path: Path) -> None:
    path = scripted(Sum(), tmp_path / "model.pt")
    control = {"kind": "CONTROL_SEQUENCE_START", "fp32_false_true": [0, 1]}
    document = {
        "max_batch_size": 4,
        "input": [{"name": "INPUT__1", "data_type": "TYPE_FP32", "dims": [1]}],
        "output": [{"name": "OUTPUT__1", "data_type": "TYPE_FP32", "dims": [1]}],
        "sequence_batching": {
            "control_input": [{"name": "START__0", "control": [control]}],
            "state": [
                {
                    "input_name": "total", "output_name": "TOTAL__0", "data_type": "TYPE_FP32",
                    "dims": [1],
                }
            ],
        },
    }  # fmt: skip
    config = msgspec.convert(document, ModelConfig)
    model = create_backend("torch").open(path, config, OpenOptions())
    assert [spec.name for spec in model.description.inputs] == ["INPUT__1", "START__0", "total"]
    assert [spec.name for spec in model.description.outputs] == ["OUTPUT__1", "TOTAL__0"]
    column = [np.array([[v], [w]], np.float32) for v, w in ((5, 6), (1, 0), (10, 20))]
    doubled, total = model.create_instance().run(column)
    assert (doubled.tolist(), total.tolist()) == ([[10], [52]], [[5], [26]])
