"""What a configuration of sequences asks for, and what of it is refused."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from batching.sequences.asking import Runner
from fakes import clock, on_loop
from inferd.backends.base import ModelDescription
from inferd.backends.completion import complete
from inferd.batching.sequences.batcher import SequenceBatcher
from inferd.config.model import ModelConfig
from inferd.errors import ConfigError
from inferd.observability.statistics import ModelStatistics
from inferd.serving.sequence_model import client_specs, sequence_batcher
from inferd.types.datatype import BYTES, FP32, INT32
from inferd.types.tensor import TensorSpec

START = {
    "name": "START", "control": [{"kind": "CONTROL_SEQUENCE_START", "int32_false_true": [0, 1]}],
}  # fmt: skip
X, Y = TensorSpec("x", FP32, (-1, 4)), TensorSpec("y", FP32, (-1, 4))
CONTROL = TensorSpec("START", INT32, (-1, 1))
STATE_IN, STATE_OUT = TensorSpec("in", FP32, (-1, 2)), TensorSpec("out", FP32, (-1, 2))


def config(batching: dict[str, Any], **more: Any) -> ModelConfig:
    return msgspec.convert({"sequence_batching": batching, **more}, ModelConfig)


def state(initial: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    said = {"input_name": "in", "output_name": "out", "data_type": "TYPE_FP32", "dims": [2]}
    return {"state": [{**said, "initial_state": initial or [], **more}]}


def initial(**more: Any) -> dict[str, Any]:
    return state([{"name": "i", "data_type": "TYPE_FP32", "dims": [2], **more}])


def described(made: ModelConfig, *extra: TensorSpec, size: int = 8) -> ModelDescription:
    inputs, outputs = (CONTROL, STATE_IN, X, *extra), (STATE_OUT, Y)
    return complete(made, "p", "b", inputs, outputs, size)


def batcher(
    batching: dict[str, Any], path: Path = Path("/nowhere"), size: int = 8, **more: Any
) -> SequenceBatcher:
    made = config({"control_input": [START], **state(), **batching}, **more)
    return sequence_batcher(
        made, path, described(made, size=size), [Runner()], (Y,), ModelStatistics(), 10, clock(),
        "m", "1",
    )  # fmt: skip


def test_what_the_server_fills_stands_behind_what_clients_send() -> None:
    made = config({"control_input": [START], **state()})
    description = described(made)
    assert [spec.name for spec in description.inputs] == ["x", "START", "in"]
    assert [spec.name for spec in description.outputs] == ["y", "out"]
    assert client_specs(made, description) == ((X,), (Y,))


def test_a_state_that_is_listed_as_an_output_is_told() -> None:
    outputs = [
        {"name": name, "data_type": "TYPE_FP32", "dims": [size]}
        for name, size in (("out", 2), ("y", 4))
    ]
    made = config({"control_input": [START], **state()}, output=outputs)
    description = described(made)
    assert client_specs(made, description) == ((X,), (STATE_OUT, Y))


@pytest.mark.parametrize(
    ("batching", "message"),
    [
        ({"control_input": [{**START, "name": "BEGIN"}], **state()}, "the model has no 'BEGIN'"),
        ({"control_input": [START], **state(dims=[3])}, "'in' is TYPE_FP32 [-1, 3]"),
        ({"control_input": [START], **state(data_type="TYPE_INT32")}, "'in' is TYPE_INT32"),
        ({"control_input": [START], **state(output_name="no")}, "the model has no 'no'"),
    ],
)
def test_a_model_without_these_tensors_is_refused(batching: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        described(config(batching))
    assert message in str(error.value)


def test_a_worker_whose_model_knows_of_no_controls_is_refused() -> None:
    description = ModelDescription("p", "python", 8, (X,), (Y,))
    with pytest.raises(ConfigError, match="the model does not have START"):
        client_specs(config({"control_input": [START]}), description)


@pytest.mark.parametrize(
    ("batching", "message"),
    [
        ({"direct": {}, "oldest": {}}, "set direct or oldest, not both"),
        ({"oldest": {"preferred_batch_size": [9]}}, "9 is over max_batch_size 8"),
        (initial(zero_data=True, data_file="f"), "is zero_data or a data_file"),
        (initial(), "is zero_data or a data_file"),
        (initial(zero_data=True, dims=[3]), "are [3], the state 'in' has [2]"),
        (initial(zero_data=True, dims=[-1]), "are [-1]"),
        (initial(zero_data=True, data_type="TYPE_INT32"), "is TYPE_INT32, the state 'in' is"),
        (initial(data_file="f"), "no folder initial_state"),
    ],
)
@on_loop
async def test_configurations_that_make_no_sense(batching: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match="sequence_batching") as error:
        batcher(batching)
    assert message in str(error.value)


@on_loop
async def test_dynamic_batching_beside_sequences_is_refused() -> None:
    with pytest.raises(ConfigError, match="not both"):
        batcher({}, dynamic_batching={})


@on_loop
async def test_slots_and_silence_are_as_the_configuration_says() -> None:
    made = batcher({"oldest": {"max_candidate_sequences": 3}})
    assert made.table.max_idle_ns == 10**9
    assert len(made.table._free) == 3
    assert len(batcher({}, size=8).table._free) == 8
    idle = batcher({"max_sequence_idle_microseconds": 5, "direct": {}})
    assert idle.table.max_idle_ns == 5000


@on_loop
async def test_an_initial_state_is_read_from_its_folder_and_no_other(tmp_path: Path) -> None:
    model = tmp_path / "m" / "1" / "model.onnx"
    folder = tmp_path / "m" / "initial_state"
    folder.mkdir(parents=True)
    (folder / "good").write_bytes(np.array([3, 4], np.float32).tobytes())
    (folder / "short").write_bytes(b"1234")
    (tmp_path / "m" / "secret").write_bytes(b"12345678")
    (folder / "link").symlink_to(tmp_path / "m" / "secret")
    made = batcher(initial(data_file="good"), model)
    assert made._filling.states[0].initial.tolist() == [[3, 4]]
    for name, message in (
        ("short", "expects 8 bytes, but 'short' only has 4 bytes"),
        ("../secret", "'../secret' is not in the folder"),
        ("link", "'link' is not in the folder"),
        (str(tmp_path / "m" / "secret"), "is not in the folder"),
        ("none", "cannot read"),
    ):
        with pytest.raises(ConfigError, match=r"initial_state\.data_file") as error:
            batcher(initial(data_file=name), model)
        assert message in str(error.value)


@on_loop
async def test_texts_of_an_initial_state_have_their_lengths_before_them(tmp_path: Path) -> None:
    folder = tmp_path / "initial_state"
    folder.mkdir()
    (folder / "texts").write_bytes(b"\x03\0\0\0one\x02\0\0\0no")
    (folder / "short").write_bytes(b"\x03\0\0\0one\x09\0\0\0no")
    texts_in, texts_out = (TensorSpec(name, BYTES, (-1, 2)) for name in ("in", "out"))
    for name in ("texts", "short"):
        said = {"name": "i", "data_type": "TYPE_STRING", "dims": [2], "data_file": name}
        made = config(state([said], data_type="TYPE_STRING"))
        description = complete(made, "p", "b", (X, texts_in), (Y, texts_out), 8)
        arguments = (made, tmp_path / "model.onnx", description, [Runner()], (Y,))
        if name == "short":
            with pytest.raises(ConfigError, match="'short' has 1 elements, expected 2"):
                sequence_batcher(*arguments, ModelStatistics(), 10, clock(), "m", "1")  # type: ignore[arg-type]
            continue
        found = sequence_batcher(*arguments, ModelStatistics(), 10, clock(), "m", "1")  # type: ignore[arg-type]
        assert found._filling.states[0].initial.tolist() == [[b"one", b"no"]]
