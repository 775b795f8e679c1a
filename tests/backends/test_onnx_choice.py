"""The choice between ONNX Runtime and OpenVINO: made by measuring, said with its figures."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from backends.onnx_models import add, graph, identity, node
from backends.test_onnxruntime import identity_of_sequences
from backends.test_openvino import HAS_BF16, saved
from inferd.backends import onnx as choice
from inferd.backends.base import OpenOptions
from inferd.backends.onnxruntime import OnnxRuntimeBackend
from inferd.backends.registry import create_backend
from inferd.config.model import ModelConfig, ModelInput
from inferd.errors import BackendError, ConfigError, InvalidRequest, Unsupported


@pytest.fixture(autouse=True)
def _short_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is worth a trial, of a twentieth of a second."""
    monkeypatch.setattr(choice, "TINY_S", 0)
    monkeypatch.setattr(choice, "BUDGET_S", 0.05)


def opened(path: Path, **config: Any) -> Any:
    return create_backend("onnx").open(path, ModelConfig(**config), OpenOptions(1))


def layers(count: int = 3, width: int = 64) -> bytes:
    rng = np.random.default_rng(0)
    weights = {
        f"w{n}": (rng.standard_normal((width, width)) * width**-0.5).astype(np.float32)
        for n in range(count)
    }
    names = ["x", *(f"h{n}" for n in range(1, count)), "y"]
    nodes = [node("MatMul", [names[n], f"w{n}"], [names[n + 1]]) for n in range(count)]
    ends = [("x", "FP32", ("n", width))], [("y", "FP32", ("n", width))]
    return graph(nodes, *ends, **weights)


@pytest.mark.parametrize(("gain", "kept"), [(0, "openvino"), (np.inf, "onnxruntime")])
def test_the_faster_is_kept_and_both_figures_are_noted(
    gain: float, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "GAIN", gain)
    path = saved(layers(), tmp_path)
    model = opened(path)
    assert model.description.backend == kept
    note = model.description.notes[0]
    for part in ("ONNX Runtime against OpenVINO in", "batch 1 ", "batch 8 ", "outputs differ by"):
        assert part in note
    rows = np.random.default_rng(1).random((5, 64), np.float32)
    (wanted,) = OnnxRuntimeBackend().open(path, ModelConfig(), OpenOptions()).create_instance().run(
        [rows]
    )  # fmt: skip
    instances = [model.create_instance(), model.create_instance()]
    for instance in instances:
        (found,) = instance.run([rows])
        np.testing.assert_allclose(found, wanted, atol=0.03 * np.abs(wanted).max())
        instance.close()
    assert model.create_lanes() == []
    model.close()


def test_float32_is_exact_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "GAIN", 0)
    model = opened(saved(layers(), tmp_path), parameters={"precision": "f32"})
    assert model.description.backend == "openvino"
    assert "OpenVINO in f32" in model.description.notes[0]


def test_a_model_that_takes_next_to_no_time_stays_without_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "TINY_S", 1)
    found = opened(saved(add(1), tmp_path)).description
    assert found.backend == "onnxruntime"
    assert "too little to be worth a trial" in found.notes[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (identity("INT64"), "holds its integers in 32 bits"),
        (identity("FP64"), "does not compute with FP64"),
        (identity("BYTES"), "nor with strings"),
    ],
)
def test_what_openvino_would_change_stays(
    data: bytes, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "GAIN", 0)
    found = opened(saved(data, tmp_path)).description
    assert found.backend == "onnxruntime"
    assert reason in found.notes[0]


def test_integers_that_say_how_much_to_compute_are_not_tried_with_huge_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A billion steps, as one beyond every table would ask for, take half a minute and 9 GB."""
    monkeypatch.setattr(choice, "GAIN", 0)
    nodes = [
        node("ReduceMax", ["x"], ["end"], keepdims=0),
        node("Range", ["zero", "end", "one"], ["steps"]),
        node("ReduceSum", ["steps"], ["sum"], keepdims=0),
        node("Add", ["x", "sum"], ["y"]),
    ]
    numbers = {"zero": np.array(0), "one": np.array(1)}
    data = graph(nodes, [("x", "INT64", ("n",))], [("y", "INT64", ("n",))], **numbers)
    found = opened(saved(data, tmp_path)).description
    assert found.backend == "onnxruntime"
    assert found.notes[0].count("integers may decide how long it runs") == 1


def test_indices_of_a_table_may_be_64_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice, "GAIN", 0)
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    ends = [("x", "INT64", ("n", 3))], [("y", "FP32", ("n", 3, 2))]
    model = opened(saved(graph([node("Gather", ["t", "x"], ["y"])], *ends, t=table), tmp_path))
    assert model.description.backend == "openvino"
    (found,) = model.create_instance().run([np.array([[3, 0, 1]])])
    assert found.tolist() == [[[6, 7], [0, 1], [2, 3]]]
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not HAS_BF16, reason="this processor multiplies no bfloat16")
def test_where_rounding_costs_too_much_float32_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "TOLERANCE", {"bf16": 1e-6})
    monkeypatch.setattr(choice, "GAIN", 0)
    found = opened(saved(layers(), tmp_path)).description
    assert found.backend == "openvino"
    assert "OpenVINO in bf16 differs by" in found.notes[0]
    assert "OpenVINO in f32" in found.notes[1]


def test_what_only_openvino_opens_it_opens(tmp_path: Path) -> None:
    model = onnx.load_from_string(add(1))
    model.ir_version = 99
    opened_by = opened(saved(model.SerializeToString(), tmp_path))
    assert opened_by.description.backend == "openvino"
    assert "OpenVINO, since ONNX Runtime cannot open it" in opened_by.description.notes[0]
    (found,) = opened_by.create_instance().run([np.zeros((1, 2), np.float32)])
    assert found.tolist() == [[1, 1]]


def test_what_neither_opens_is_told_in_onnx_runtimes_words(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="ONNX Runtime cannot load model"):
        opened(saved(b"not a model", tmp_path))


def test_what_onnx_runtime_understands_and_does_not_offer_openvino_is_not_asked(
    tmp_path: Path,
) -> None:
    with pytest.raises(Unsupported, match="tensor 'x' has type seq"):
        opened(saved(identity_of_sequences(), tmp_path))


def test_a_contradiction_is_not_covered_by_the_other(tmp_path: Path) -> None:
    wrong = (ModelInput(name="x", data_type="TYPE_INT8", dims=(2,)),)
    with pytest.raises(ConfigError, match="the model has TYPE_FP32"):
        opened(saved(add(1), tmp_path), input=wrong)


def test_a_precision_that_is_none_names_its_field(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is 'double', expected one of auto, bf16, f16, f32"):
        opened(saved(add(1), tmp_path), parameters={"precision": "double"})


def test_onnx_runtimes_own_tuning_chooses_it(tmp_path: Path) -> None:
    found = opened(saved(add(1), tmp_path), parameters={"intra_op_thread_count": 1}).description
    assert found.notes[0] == "ONNX Runtime: parameters.intra_op_thread_count is its own"


def test_where_openvino_is_not_installed_there_is_nothing_to_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = opened(saved(add(1), tmp_path)).description
    assert found.notes[0] == "ONNX Runtime: OpenVINO is not installed"
    with pytest.raises(BackendError, match="ONNX Runtime cannot load"):
        opened(saved(b"", tmp_path))


def test_where_onnx_runtime_is_not_installed_openvino_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "inferd.backends.onnxruntime")
    assert opened(saved(add(1), tmp_path)).description.backend == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"pip install 'inferd\[onnx\]'"):
        opened(saved(add(1), tmp_path))


def table(kind: str = "INT64") -> bytes:
    """Rows of a table by their numbers, through a layer that is worth a trial."""
    rng = np.random.default_rng(0)
    weights = {
        "rows": rng.standard_normal((10, 64)).astype(np.float32),
        "w": rng.standard_normal((64, 64)).astype(np.float32),
    }
    nodes = [node("Gather", ["rows", "x"], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    return graph(nodes, [("x", kind, ("n", 2))], [("y", "FP32", ("n", 2, 64))], **weights)


@pytest.mark.parametrize("kind", ["INT64", "INT32"])
@pytest.mark.parametrize("number", [-11, 10, 1 << 20])
def test_numbers_beyond_a_table_are_refused_by_whichever_is_kept(
    kind: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for gain in (0, np.inf):
        monkeypatch.setattr(choice, "GAIN", gain)
        model = opened(saved(table(kind), tmp_path))
        instances = [model.create_instance(), model.create_instance(), *model.create_lanes()]
        good = np.array([[9, 0]], model.description.inputs[0].datatype.dtype)
        for instance in instances:
            assert instance.run([good])[0].shape == (1, 2, 64)
            with pytest.raises(InvalidRequest, match=r"within the inclusive range \[-10,\s?9\]"):
                instance.run([np.concatenate([good, np.full_like(good, number)])])
