import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from inferd.errors import InvalidRequest
from inferd.protocols.http.oip.request_codec import JSON_FORM, OutputForm
from inferd.protocols.http.oip.response_codec import encode_response
from inferd.types.datatype import BF16, BYTES, DATATYPES, FP16, FP32, FP64, INT64
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Array, Tensor
from protocols.http.oip.wire import BINARY_VALUES, JSON_VALUES, packed


def response(*arrays: tuple[str, Array], **more: Any) -> InferenceResponse:
    tensors = [Tensor(f"y{i}", DATATYPES[n], array) for i, (n, array) in enumerate(arrays)]
    return InferenceResponse("m", "3", tensors, **more)


def in_json(answer: InferenceResponse, form: OutputForm = JSON_FORM) -> Any:
    data, length = encode_response(answer, form)
    assert length is None
    return json.loads(data)


def only(datatype: str, array: Array) -> Any:
    """The one output of an answer, the same from both of the codec's ways."""
    answer = response((datatype, array))
    found = in_json(answer)
    assert in_json(answer, OutputForm()) == found
    assert (found["model_name"], found["model_version"]) == ("m", "3")
    assert set(found) == {"model_name", "model_version", "outputs"}
    (output,) = found["outputs"]
    assert (output["name"], output["datatype"]) == ("y0", datatype)
    assert output["shape"] == list(array.shape)
    return output["data"]


@pytest.mark.parametrize("datatype", JSON_VALUES)
def test_json_of_every_datatype(datatype: str) -> None:
    array = BINARY_VALUES[datatype]
    if datatype == "BYTES":
        array = np.array([b"", "é\u0000€".encode()], object)
    assert only(datatype, array) == JSON_VALUES[datatype]


def test_json_is_flat_and_row_major() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert only("FP32", array) == [0, 1, 2, 3, 4, 5]
    assert only("FP32", array.T) == [0, 3, 1, 4, 2, 5]
    assert only("FP32", array[:, ::2]) == [0, 2, 3, 5]
    assert only("INT64", array.astype(np.int64).T) == [0, 3, 1, 4, 2, 5]
    assert only("FP32", np.empty((0, 3), np.float32)) == []
    assert only("FP32", np.array(2.5, np.float32)) == [2.5]


def test_what_json_lacks_is_null() -> None:
    for datatype in ("FP32", "FP64"):
        array = np.array([math.nan, math.inf, -math.inf, 1.0], DATATYPES[datatype].dtype)
        assert only(datatype, array) == [None, None, None, 1.0]


@settings(derandomize=True, deadline=None)
@for_all(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_read_back_as_they_were(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert np.array_equal(np.array(only("FP32", array), np.float32), array)


@pytest.mark.parametrize("datatype", [FP16, BF16])
def test_halves_are_refused_in_json(datatype: Any) -> None:
    answer = InferenceResponse("m", "", [Tensor("y", datatype, np.zeros(1, datatype.dtype))])
    for form in (JSON_FORM, OutputForm()):
        with pytest.raises(InvalidRequest, match=f"sending {datatype.name} data via JSON is not"):
            encode_response(answer, form)


def test_bytes_that_are_no_text_are_refused_in_json_and_not_in_binary() -> None:
    answer = InferenceResponse("m", "", [Tensor("y", BYTES, np.array([b"\xff"], object))])
    with pytest.raises(InvalidRequest, match="output 'y' holds bytes that are not UTF-8"):
        encode_response(answer, JSON_FORM)
    data, length = encode_response(answer, OutputForm(True))
    assert length is not None
    assert data[length:] == b"\x01\x00\x00\x00\xff"


@pytest.mark.parametrize("datatype", BINARY_VALUES)
def test_binary_of_every_datatype(datatype: str) -> None:
    array = BINARY_VALUES[datatype].reshape(1, 2)
    data, length = encode_response(response((datatype, array)), OutputForm(True))
    assert length is not None
    (output,) = json.loads(data[:length])["outputs"]
    assert output["shape"] == [1, 2]
    assert "data" not in output
    assert output["parameters"] == {"binary_data_size": len(data) - length}
    assert data[length:] == packed(array)


def test_binary_of_a_view_is_row_major() -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3).T
    data, length = encode_response(response(("INT16", array)), OutputForm(True))
    assert np.frombuffer(data[length:], np.int16).tolist() == [0, 3, 1, 4, 2, 5]


def test_binary_without_elements() -> None:
    for name, array in (("FP32", np.empty((0, 2), np.float32)), ("BYTES", np.empty(0, object))):
        data, length = encode_response(response((name, array)), OutputForm(True))
        assert length == len(data)
        (output,) = json.loads(data)["outputs"]
        assert output["parameters"] == {"binary_data_size": 0}
        assert 0 in output["shape"]


def test_each_output_has_its_own_form_and_binary_follows_in_order() -> None:
    form = OutputForm(False)
    form.by_name = {"y0": True, "y1": False, "y2": True}
    answer = response(
        ("FP32", np.array([1.5], np.float32)),
        ("INT64", np.array([7], np.int64)),
        ("BYTES", np.array([b"ab"], object)),
    )
    data, length = encode_response(answer, form)
    assert length is not None
    first, second, third = json.loads(data[:length])["outputs"]
    assert first["parameters"] == {"binary_data_size": 4}
    assert (second["data"], "parameters" in second) == ([7], False)
    assert third["parameters"] == {"binary_data_size": 6}
    assert data[length:] == np.float32(1.5).tobytes() + b"\x02\x00\x00\x00ab"


def test_id_and_parameters_are_sent_where_there_are_any() -> None:
    ones = ("FP64", np.ones(1))
    assert in_json(response(ones, id="é1"))["id"] == "é1"
    found = in_json(response(ones, parameters={"a": 1, "b": True, "c": "x", "d": 0.5}))
    assert found["parameters"] == {"a": 1, "b": True, "c": "x", "d": 0.5}
    assert "id" not in found


def test_names_that_json_must_escape() -> None:
    name = 'a"b\\c\né'
    answer = InferenceResponse(name, name, [Tensor(name, FP32, np.ones(1, np.float32))], name)
    found = in_json(answer, OutputForm())
    assert found["outputs"][0]["name"] == found["model_name"] == found["id"] == name
    answer.id = ""
    assert in_json(answer)["outputs"][0]["name"] == name


def test_many_and_no_outputs() -> None:
    answer = InferenceResponse("m", "", [])
    assert in_json(answer)["outputs"] == []
    answer.outputs = [
        Tensor("a", FP64, np.array([0.1])),
        Tensor("b", INT64, np.array([[2]])),
    ]
    found = in_json(answer)["outputs"]
    assert [(o["name"], o["shape"], o["data"]) for o in found] == [
        ("a", [1], [0.1]),
        ("b", [1, 1], [2]),
    ]
