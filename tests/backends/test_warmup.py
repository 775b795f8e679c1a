"""Warm-up requests, as the configuration says them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inferd.backends.warmup import WarmupBatch, warmup_batches, zeros
from inferd.batching.layout import BatchLayout, InputLayout, MadeInput
from inferd.config.model import ModelConfig
from inferd.errors import ConfigError
from inferd.repository.model_config import decode_model_config
from inferd.types.datatype import BF16, BYTES, FP32, INT64, DataType
from inferd.types.tensor import LeftOut, TensorSpec

X = TensorSpec("x", FP32, (-1, 3))
RAGGED = BatchLayout(
    True, (InputLayout((-1,), ragged=True),), (MadeInput("BATCH_ELEMENT_COUNT", "INT32", 0),), ()
)


def said(batch_size: int = 1, count: int = 1, **inputs: dict[str, Any]) -> ModelConfig:
    warmup = {"name": "w", "batch_size": batch_size, "count": count, "inputs": inputs}
    return decode_model_config({"model_warmup": [warmup]}, file="config.yaml")


def data(kind: str = "TYPE_FP32", *dims: int, **more: Any) -> dict[str, Any]:
    return {"data_type": kind, "dims": list(dims), **more}


def batches(
    config: ModelConfig, *inputs: TensorSpec, folder: Path | None = None, most: int = 4,
    layout: BatchLayout | None = None,
) -> list[WarmupBatch]:  # fmt: skip
    return list(warmup_batches(config, folder, inputs or (X,), most, layout))


def refusal(config: ModelConfig, *inputs: TensorSpec, **more: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        batches(config, *inputs, **more)
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "warmup" / "more").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(bytes(12))
    return tmp_path


def test_zeros_are_as_many_requests_of_a_row_as_the_batch_size_says() -> None:
    (batch,) = batches(said(3, 5, x=data("TYPE_FP32", 3, zero_data=True)))
    assert (batch.name, batch.rows, batch.count) == ("w", 3, 5)
    assert batch.inputs[0].tolist() == np.zeros((3, 3)).tolist()
    assert batch.inputs[0].dtype == np.float32


def test_random_data_are_in_the_type_and_not_zero() -> None:
    (batch,) = batches(said(x=data("TYPE_FP32", 3, random_data=True)))
    assert batch.inputs[0].any()
    whole = TensorSpec("x", INT64, (-1, 3))
    (batch,) = batches(said(x=data("TYPE_INT64", 3, random_data=True)), whole)
    assert batch.inputs[0].dtype == np.int64
    text = TensorSpec("x", BYTES, (-1, 3))
    (batch,) = batches(said(x=data("TYPE_STRING", 3, random_data=True)), text)
    assert batch.inputs[0].tolist() == [[b"", b"", b""]]


@pytest.mark.parametrize(
    ("kind", "dtype"), [(FP32, np.float32), (INT64, np.int64), (BF16, np.uint16)]
)
def test_a_file_holds_the_bytes_of_a_row(folder: Path, kind: DataType, dtype: type) -> None:
    row = np.array([1, 2, 3], dtype)
    (folder / "warmup" / "more" / "row").write_bytes(row.tobytes() + b"more than one row takes")
    config = said(2, x=data(kind.config_name, 3, input_data_file="more/row"))
    (batch,) = batches(config, TensorSpec("x", kind, (-1, 3)), folder=folder)
    assert batch.inputs[0].tolist() == [[1, 2, 3], [1, 2, 3]]
    assert batch.inputs[0].dtype == dtype


def test_strings_in_a_file_have_their_lengths_before_them(folder: Path) -> None:
    texts = [b"one", b"", "grüße".encode()]
    content = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    (folder / "warmup" / "texts").write_bytes(content)
    config = said(x=data("TYPE_STRING", 3, input_data_file="texts"))
    text = TensorSpec("x", BYTES, (-1, 3))
    (batch,) = batches(config, text, folder=folder)
    assert batch.inputs[0].tolist() == [texts]
    for damaged, words in (
        (content[:-1], "ends within string 2 of 3"), (content[:2], "string 0"),
        (content + b"x", "goes on behind the 3 strings"),
    ):  # fmt: skip
        (folder / "warmup" / "texts").write_bytes(damaged)
        assert words in str(refusal(config, text, folder=folder))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "more/../../secret", "..", "a\0b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    error = refusal(said(x=data("TYPE_FP32", 3, input_data_file=name)), folder=folder)
    assert "leads out of the model's folder warmup" in str(error)
    assert error.field == "model_warmup[0].inputs.x.input_data_file"


def test_a_file_that_cannot_be_used_says_why(folder: Path) -> None:
    config = said(x=data("TYPE_FP32", 3, input_data_file="row"))
    assert "cannot be read: No such file" in str(refusal(config, folder=folder))
    (folder / "warmup" / "row").write_bytes(bytes(11))
    assert "has 11 bytes, and TYPE_FP32 of shape [1, 3] takes 12" in str(
        refusal(config, folder=folder)
    )
    assert "needs a model that is a folder" in str(refusal(config))
    config = said(x=data("TYPE_FP32", 3, input_data_file="more"))
    assert "Is a directory" in str(refusal(config, folder=folder))


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        (said(5, x=data("TYPE_FP32", 3)), "batch_size", "is 5, over the model's max_batch_size"),
        (said(x=data("TYPE_INT32", 3)), "inputs.x.data_type", "expects TYPE_FP32"),
        (said(x=data("TYPE_FP32", 4)), "inputs.x.dims", "[4], the model expects [3]"),
        (said(x=data("TYPE_FP32", 1, 3)), "inputs.x.dims", "(without the batch)"),
        (said(), "inputs.x", "needs every input"),
        (said(x=data("TYPE_FP32", 3), z=data()), "inputs.z", "no input that clients send"),
        (
            said(x=data("TYPE_FP32", 3, zero_data=True, random_data=True)), "inputs.x",
            "zero_data and random_data; choose one",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_names_its_field(config: ModelConfig, field: str, words: str) -> None:
    error = refusal(config)
    assert error.field == f"model_warmup[0].{field}"
    assert words in str(error)


def test_without_batching_dims_are_the_whole_shape() -> None:
    whole = TensorSpec("x", FP32, (2, 3))
    for batch_size in (0, 1):
        (batch,) = batches(said(batch_size, x=data("TYPE_FP32", 2, 3)), whole, most=0)
        assert (batch.inputs[0].shape, batch.rows) == ((2, 3), 1)
    assert "is 2" in str(refusal(said(2, x=data("TYPE_FP32", 2, 3)), whole, most=0))


def test_an_input_that_is_optional_may_be_left_out() -> None:
    spec = TensorSpec("z", FP32, (-1, 1), optional=True)
    (batch,) = batches(said(2, x=data("TYPE_FP32", 3)), X, spec)
    assert isinstance(batch.inputs[1], LeftOut)


def test_what_the_server_fills_is_zeros_where_it_is_not_said() -> None:
    start = TensorSpec("start", FP32, (-1, 1))
    config = said(2, x=data("TYPE_FP32", 3))
    (batch,) = warmup_batches(config, None, (X, start), 4, None, filled={"start"})
    assert batch.inputs[1].tolist() == [[0], [0]]
    config = said(x=data("TYPE_FP32", 3), start=data("TYPE_FP32", 1, random_data=True))
    (batch,) = warmup_batches(config, None, (X, start), 4, None, filled={"start"})
    assert batch.inputs[1].any()


def test_requests_are_laid_out_as_the_model_takes_them() -> None:
    spec = TensorSpec("x", FP32, (-1, -1))
    (batch,) = batches(said(3, x=data("TYPE_FP32", 2)), spec, layout=RAGGED)
    assert batch.inputs[0].shape == (6,)
    assert batch.inputs[1].tolist() == [2, 2, 2]


def test_made_up_rows_are_requests_of_a_row_each_where_that_matters() -> None:
    spec = TensorSpec("x", FP32, (-1, -1))
    whole, counts = zeros([spec], 3, True, RAGGED)
    assert (whole.shape, counts.tolist()) == ((24,), [8, 8, 8])
    reshaped = BatchLayout(True, (InputLayout((3,), (3, 1)),), (), ())
    assert zeros([X], 2, True, reshaped)[0].shape == (2, 3, 1)
    assert zeros([X], 2, True, None)[0].shape == (2, 3)
