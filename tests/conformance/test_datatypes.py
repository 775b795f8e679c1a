"""Every datatype there and back in JSON, and its corners; in binary: `inferd.conformance`."""

import itertools
from typing import Any, TypeAlias

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from conformance.models import Array, tensor
from lifecycle.onnx_models import TYPES
from lifecycle.process import ServerProcess, json_input

Client: TypeAlias = triton.InferenceServerClient

_INTEGERS = {
    f"{sign}INT{bits}": np.dtype(f"{sign}int{bits}".lower())
    for sign in ("", "U")
    for bits in (8, 16, 32, 64)
}


def sample(datatype: str) -> Array:
    """Two rows of three with the values that go wrong first."""
    if datatype == "BYTES":
        text = [b"", b"plain", "ümlaut ✓".encode(), b'quote " and \\', b"a" * 300, b"\n"]
        return np.array(text, dtype=object).reshape(2, 3)
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    if datatype in _INTEGERS:
        kind = _INTEGERS[datatype]
        least, most = np.iinfo(kind).min, np.iinfo(kind).max
        return np.array([[least, most, 0], [1, 2, most - 1]], kind)
    kind = np.dtype({"FP16": "float16", "FP64": "float64"}.get(datatype, "float32"))
    tiny, large = float(np.finfo(kind).tiny), float(np.finfo(kind).max)
    if datatype == "BF16":
        return np.array([[0, -1.5, 2.0**100], [0.5, -(2.0**-100), 3]], kind)
    return np.array([[0, -1.5, large], [tiny, 1 / 3, -large]], kind)


JSON_TYPES = [name for name in TYPES if name not in ("FP16", "BF16")]


@pytest.mark.parametrize(
    ("datatype", "binary_in", "binary_out"),
    [(name, *way) for name, way in itertools.product(JSON_TYPES, [(False, False), (False, True)])]
    + [(name, True, False) for name in JSON_TYPES],
)
def test_values_travel_in_json(
    client: Client, datatype: str, binary_in: bool, binary_out: bool
) -> None:
    sent = sample(datatype)
    asked = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary_out)]
    made = tensor("INPUT0", datatype, sent, binary_in)
    result = client.infer(f"id_{datatype}", [made], outputs=asked)
    assert ("data" in result.get_output("OUTPUT0")) is not binary_out
    found = result.as_numpy("OUTPUT0")
    if datatype == "BYTES" and not binary_out:
        found = np.array([value.encode() for value in found.ravel()], object).reshape(found.shape)
    np.testing.assert_array_equal(found, sent)


@pytest.mark.parametrize("datatype", TYPES)
def test_an_empty_tensor_comes_back_empty(client: Client, datatype: str) -> None:
    sent = sample(datatype)[:, :0]
    result = client.infer(f"id_{datatype}", [tensor("INPUT0", datatype, sent)])
    assert result.get_output("OUTPUT0")["shape"] == [2, 0]
    assert result.as_numpy("OUTPUT0").shape == (2, 0)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_in_json_are_refused_both_ways(client: Client, datatype: str) -> None:
    sent = sample(datatype)
    outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=False)]
    with pytest.raises(InferenceServerException, match=datatype) as error:
        client.infer(f"id_{datatype}", [tensor("INPUT0", datatype, sent)], outputs=outputs)
    assert error.value.status() == "400"


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_in_json_data_are_400(server: ServerProcess, datatype: str) -> None:
    body = {"inputs": [json_input("INPUT0", datatype, [1, 1], [1.0])]}
    answer = server.infer(f"id_{datatype}", body)
    assert answer.status == 400
    assert datatype in answer.error


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1, 2], [3, 4]]]])
def test_json_data_may_be_flat_or_nested(server: ServerProcess, data: list[Any]) -> None:
    body = {"inputs": [json_input("INPUT0", "INT32", [2, 2], data)]}
    answer = server.infer("id_INT32", body)
    assert answer.status == 200
    assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4]
    assert answer.json()["outputs"][0]["shape"] == [2, 2]


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("UINT8", [256]), ("UINT8", [-1]), ("INT8", [128]), ("INT64", [2**63]), ("INT32", [1.5]),
        ("BOOL", [1]), ("FP32", ["1"]), ("FP32", [True]), ("BYTES", [1]), ("INT32", [None]),
        ("FP32", [{}]), ("UINT64", [2**64]),
    ],
)  # fmt: skip
def test_a_value_that_the_datatype_does_not_hold_is_400(
    server: ServerProcess, datatype: str, data: list[Any]
) -> None:
    body = {"inputs": [json_input("INPUT0", datatype, [1, 1], data)]}
    answer = server.infer(f"id_{datatype}", body)
    assert answer.status == 400
    assert "INPUT0" in answer.error


def test_any_byte_but_zero_is_true(server: ServerProcess) -> None:
    header = b'{"inputs":[{"name":"INPUT0","shape":[1,3],"datatype":"BOOL","parameters":'
    header += b'{"binary_data_size":3}}]}'
    length = {"Inference-Header-Content-Length": str(len(header))}
    body = header + b"\x00\x01\x7f"
    answer = server.request("POST", "/v2/models/id_BOOL/infer", body, length)
    assert answer.json()["outputs"][0]["data"] == [False, True, True]


def test_bytes_that_are_not_text_are_refused_in_words_by_a_text_model(client: Client) -> None:
    sent = np.array([[b"\xff\xfe"]], dtype=object)
    with pytest.raises(InferenceServerException, match="UTF-8") as error:
        client.infer("id_BYTES", [tensor("INPUT0", "BYTES", sent)])
    assert error.value.status() == "400"
