from typing import Any

import numpy as np
import pytest

from inferd.errors import InvalidRequest
from inferd.protocols.http.oip.generate_codec import decode_generate, encode_generate
from inferd.types.datatype import BOOL, BYTES, FP32, INT64, DataType
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.tensor import Tensor, TensorSpec


def spec(name: str, datatype: DataType, *shape: int) -> TensorSpec:
    return TensorSpec(name, datatype, shape)


def decode(body: bytes, *specs: TensorSpec) -> InferenceRequest:
    return decode_generate("m", "1", body, specs)


@pytest.mark.parametrize(
    ("value", "shape", "becomes"),
    [
        ("[1, 2, 3]", (-1, 3), [[1, 2, 3]]),
        ("[1, 2, 3, 4, 5, 6]", (-1, 3), [[1, 2, 3], [4, 5, 6]]),
        ("[1, 2, 3]", (-1, -1), [[1, 2, 3]]),
        ("[1, 2, 3]", (3,), [1, 2, 3]),
        ("[[1, 2], [3, 4]]", (-1, 2), [[1, 2], [3, 4]]),
        ("5", (-1, 1), [[5]]),
        ("5", (1,), [5]),
        ("5", (), 5),
        ("[5]", (-1, -1, -1), [[[5]]]),
        ("[]", (-1,), []),
        ("[]", (-1, 3), []),
        ("[1, 2, 3, 4]", (-1, 2, -1), [[[1, 2], [3, 4]]]),
    ],
)
def test_values_take_the_shape_of_their_input(
    value: str, shape: tuple[int, ...], becomes: Any
) -> None:
    (tensor,) = decode(f'{{"x": {value}}}'.encode(), spec("x", FP32, *shape)).inputs
    assert tensor.array.tolist() == becomes
    assert tensor.array.dtype == np.float32


def test_other_kinds_of_values() -> None:
    request = decode(
        b'{"text": "h\xc3\xbc", "on": true, "n": NaN}',
        spec("text", BYTES, -1, 1), spec("on", BOOL, 1), spec("n", FP32, 1),
    )  # fmt: skip
    text, on, number = request.inputs
    assert text.array.tolist() == [["h\u00fc".encode()]]
    assert on.array.tolist() == [True]
    assert np.isnan(number.array[0])


def test_what_is_no_input_is_a_parameter() -> None:
    request = decode(
        b'{"x": 1, "id": "mine", "stream": false, "priority": 3, "parameters": '
        b'{"y": 2, "temperature": 0.5, "name": "n", "timeout": 100}}',
        spec("x", INT64, 1), spec("y", INT64, 1),
    )  # fmt: skip
    assert [tensor.name for tensor in request.inputs] == ["x", "y"]
    assert request.id == "mine"
    assert request.parameters == {"stream": False, "temperature": 0.5, "name": "n"}
    assert (request.priority, request.timeout_us) == (3, 100)
    assert request.outputs is None


def test_an_input_may_be_called_id() -> None:
    request = decode(b'{"id": 7}', spec("id", INT64, 1))
    assert request.inputs[0].array.tolist() == [7]
    assert request.id == ""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "failed to parse the request JSON buffer"),
        (b"{", "failed to parse the request JSON buffer"),
        (b"[1]", "must be a JSON object"),
        (b"[" * 200 + b"]" * 200, "nesting depth exceeds"),
        (b'{"x": [1, 2]}', "can not convert input 'x' to tensor with proper shape: 2 elements"),
        (b'{"x": null}', "input 'x' must be a value or a list of values"),
        (b'{"x": {"a": 1}}', "input 'x' must be a value or a list of values"),
        (b'{"x": ["a", "b", "c"]}', "values that are not FP32"),
        (b'{"x": [[1], 2, 3]}', "'data' is not a regular array|not FP32"),
        (b'{"x": [[1], [2, 3]]}', "input 'x' is not a regular array: rows differ in length"),
        (b'{"z": [1]}', "parameter 'z' has invalid type"),
        (b'{"parameters": {"z": null}}', "parameter 'z' has invalid type"),
        (b'{"parameters": 3}', "Expected JSON object for keyword: 'parameters'"),
        (b'{"id": []}', "'id' must be a string"),
        (b'{"triton_x": 1}', "are reserved"),
    ],
)
def test_what_cannot_be_read(body: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        decode(body, spec("x", FP32, -1, 3))


def test_an_input_called_parameters() -> None:
    with pytest.raises(InvalidRequest, match="for nested schema also given as input tensor name"):
        decode(b'{"parameters": [1]}', spec("parameters", FP32, 1))


def test_answers_are_flat() -> None:
    outputs = [
        Tensor("one", FP32, np.float32([[0.1]])),
        Tensor("many", INT64, np.array([[1, 2], [3, 4]])),
        Tensor("text", BYTES, np.array([["h\u00fc".encode()]], object)),
        Tensor("none", FP32, np.zeros((1, 0), np.float32)),
        Tensor("model_name", FP32, np.float32([9])),
    ]
    response = InferenceResponse("m", "2", outputs, "mine", {"seconds": 0.5, "one": "hidden"})
    assert encode_generate(response).decode() == (
        '{"id":"mine","model_name":"m","model_version":"2","seconds":0.5,"one":"hidden",'
        '"many":[1,2,3,4],"text":"h\u00fc","none":[]}'
    )
