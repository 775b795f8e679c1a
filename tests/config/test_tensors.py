"""What is said of tensors and contradicts itself is an error that names the field and the fix."""

from typing import Any

import pytest

from inferd.config.model import ModelConfig
from inferd.errors import ConfigError
from inferd.repository.model_config import decode_model_config

X = {"name": "x", "data_type": "TYPE_FP32", "dims": [-1]}
Y = {"name": "y", "data_type": "TYPE_FP32", "dims": [-1]}
COUNT = {
    "kind": "BATCH_ELEMENT_COUNT", "target_name": ["n"], "data_type": "TYPE_INT32",
    "source_input": ["x"],
}  # fmt: skip
CUT = {"target_name": ["y"], "source_input": ["x"]}


def read(**document: Any) -> ModelConfig:
    document = {"max_batch_size": 8, "input": [X], "output": [Y], **document}
    return decode_model_config(document, file="config.yaml")


def reshaped(dims: list[int], shape: list[int]) -> dict[str, Any]:
    return {"input": [{**X, "dims": dims, "reshape": {"shape": shape}}]}


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        ([1], []), ([4], [2, 2]), ([2, 4, -1, 6], [8, -1, 1, 6]), ([-1, -1], [-1, 1, -1]),
        ([], [1]),
    ],
)  # fmt: skip
def test_a_reshape_holds_the_same_elements(dims: list[int], shape: list[int]) -> None:
    found = read(**reshaped(dims, shape)).input[0].reshape
    assert found is not None
    assert found.shape == tuple(shape)


@pytest.mark.parametrize(
    ("said", "field", "words"),
    [
        (reshaped([4], [3]), "input.reshape", "is [3], and dims are [4]"),
        (reshaped([2, -1], [-1, 2]), "input.reshape", "as many elements before, between"),
        (reshaped([-1], [-1, -1]), "input.reshape", "as many dims of -1"),
        (reshaped([0], [0]), "input.reshape", "1 or more, or -1"),
        ({"output": [{**Y, "reshape": {"shape": [5]}}]}, "output.reshape", "of 'y' is [5]"),
        ({"input": [{**X, "dims": [-2]}]}, "input.dims", "-1 for any size"),
        ({"output": [{**Y, "dims": [-3]}]}, "output.dims", "'y'"),
        ({"input": [{**X, "is_shape_tensor": True}]}, "input.is_shape_tensor", "TensorRT"),
        ({"output": [{**Y, "is_shape_tensor": True}]}, "output.is_shape_tensor", "'y'"),
        (
            {"input": [{**X, "is_non_linear_format_io": True}]},
            "input.is_non_linear_format_io", "TensorRT",
        ),
        ({"input": [{**X, "format": "FORMAT_NCHW"}]}, "input.format", "3 dims"),
        (
            {"max_batch_size": None, "batch_input": [{**COUNT, "kind": "BATCH_ITEM_SHAPE"}]},
            "batch_input.kind", "max_batch_size of 1 or more",
        ),
        ({"batch_input": [{**COUNT, "source_input": ["z"]}]}, "batch_input.source_input", "'z'"),
        (
            {"batch_input": [{**COUNT, "source_input": ["x", "x"]}]},
            "batch_input.source_input", "is one input, and 2",
        ),
        (
            {"batch_input": [{**COUNT, "source_input": []}]},
            "batch_input.source_input", "is one input, and 0",
        ),
        ({"batch_input": [{**COUNT, "target_name": []}]}, "batch_input.target_name", "nothing"),
        ({"batch_input": [{**COUNT, "target_name": ["x"]}]}, "batch_input.target_name", "take it"),
        ({"batch_input": [COUNT, COUNT]}, "batch_input.target_name", "'n' 2 times"),
        (
            {"batch_input": [{**COUNT, "data_type": "TYPE_INT64"}]},
            "batch_input.data_type", "TYPE_INT32 or TYPE_FP32",
        ),
        (
            {"max_batch_size": 0, "batch_input": [{**COUNT, "kind": "BATCH_ITEM_SHAPE"}]},
            "batch_input.kind", "max_batch_size of 1 or more",
        ),
        (
            {"input": [{**X, "optional": True}], "batch_input": [COUNT]},
            "batch_input.source_input", "optional",
        ),
        ({"batch_output": [{**CUT, "target_name": ["z"]}]}, "batch_output.target_name", "are: y"),
        ({"batch_output": [{**CUT, "source_input": ["y"]}]}, "batch_output.source_input", "'y'"),
        ({"batch_output": [CUT, CUT]}, "batch_output.target_name", "'y' 2 times"),
        (
            {"output": [{**Y, "dims": [2, -1]}], "batch_output": [CUT]},
            "batch_output.source_input", "at place 1, and 'x'",
        ),
    ],
)  # fmt: skip
def test_a_contradiction_names_the_field_and_the_fix(
    said: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**said)
    assert caught.value.field == field
    assert caught.value.file == "config.yaml"
    assert words in str(caught.value)


def test_what_fits_is_taken() -> None:
    config = read(
        input=[{**X, "allow_ragged_batch": True, "reshape": {"shape": [-1, 1]}}],
        output=[{**Y, "dims": [-1, 3]}],
        batch_input=[COUNT, {**COUNT, "kind": "BATCH_ITEM_SHAPE", "target_name": ["a", "b"]}],
        batch_output=[CUT],
    )
    assert config.batch_input[1].target_name == ("a", "b")
