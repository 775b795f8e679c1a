import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from inferd.protocols.http.oip.request_codec import JSON_FORM, decode_request
from inferd.types.datatype import DATATYPES
from inferd.types.inference import InferenceRequest
from inferd.types.tensor import Array
from protocols.http.oip.wire import BINARY_VALUES, JSON_VALUES, body, given, packed, same


def decoded(data: bytes, header_length: int | None = None) -> InferenceRequest:
    return decode_request("m", "2", data, header_length)[0]


def array_of(datatype: str, shape: list[int], data: Any) -> Array:
    (tensor,) = decoded(body(given("x", datatype, shape, data))).inputs
    assert tensor.datatype is DATATYPES[datatype]
    assert tensor.array.dtype == tensor.datatype.dtype
    return tensor.array


def test_every_datatype_has_its_example() -> None:
    assert set(BINARY_VALUES) == set(DATATYPES)
    assert set(JSON_VALUES) == set(DATATYPES) - {"FP16", "BF16"}


# -- JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", JSON_VALUES)
def test_json_of_every_datatype(datatype: str) -> None:
    values = JSON_VALUES[datatype]
    expected = [v.encode() for v in values] if datatype == "BYTES" else values
    assert array_of(datatype, [2], values).tolist() == expected
    assert array_of(datatype, [2, 1], values).tolist() == [[v] for v in expected]


@pytest.mark.parametrize("datatype", JSON_VALUES)
def test_flat_and_nested_json_are_the_same(datatype: str) -> None:
    a, b = JSON_VALUES[datatype]
    flat = array_of(datatype, [2, 3], [a, b, b, a, a, b])
    nested = array_of(datatype, [2, 3], [[a, b, b], [a, a, b]])
    assert same(flat, nested)


@pytest.mark.parametrize("datatype", JSON_VALUES)
@pytest.mark.parametrize("shape", [[0], [0, 4], [2, 0]])
def test_json_without_elements(datatype: str, shape: list[int]) -> None:
    assert array_of(datatype, shape, []).shape == tuple(shape)


def test_a_single_value_need_not_be_in_a_list() -> None:
    assert array_of("FP32", [1, 1], 2.5).tolist() == [[2.5]]
    assert array_of("BYTES", [1], "text").tolist() == [b"text"]
    assert array_of("INT8", [], [3]).shape == ()


def test_whole_numbers_are_floats_too() -> None:
    assert array_of("FP32", [3], [1, 2.5, -3]).tolist() == [1.0, 2.5, -3.0]
    assert array_of("FP64", [1], [2**60]).tolist() == [2.0**60]


def test_nan_and_infinity_are_taken() -> None:
    data = (
        b'{"inputs":[{"name":"x","shape":[3],"datatype":"FP32","data":[NaN,-Infinity,Infinity]}]}'
    )
    first, second, third = decoded(data).inputs[0].array.tolist()
    assert math.isnan(first)
    assert (second, third) == (-math.inf, math.inf)


def test_a_number_too_large_for_its_float_is_infinite() -> None:
    with np.errstate(over="ignore"):
        assert array_of("FP32", [2], [1e39, -1e300]).tolist() == [math.inf, -math.inf]


@settings(derandomize=True, deadline=None)
@for_all(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_float_is_the_one_that_was_written(values: list[float]) -> None:
    assert array_of("FP32", [len(values)], values).tolist() == values


@settings(derandomize=True, deadline=None)
@for_all(
    st.sampled_from([name for name in JSON_VALUES if "INT" in name]),
    st.lists(st.integers(-(2**64), 2**65), min_size=1, max_size=5),
)
def test_an_integer_is_the_one_that_was_written_or_refused(name: str, values: list[int]) -> None:
    info = np.iinfo(DATATYPES[name].dtype)  # type: ignore[type-var]
    values = [v % (info.max - info.min + 1) + info.min for v in values]
    assert array_of(name, [len(values)], values).tolist() == values


@settings(derandomize=True, deadline=None)
@for_all(st.lists(st.text(max_size=9), max_size=6))
def test_text_becomes_its_utf8(values: list[str]) -> None:
    values = [value.encode("utf-8", "ignore").decode() for value in values]
    found = array_of("BYTES", [len(values)], values)
    assert found.tolist() == [value.encode() for value in values]


def test_unknown_fields_are_ignored() -> None:
    entry = {**given("x", "FP32", [1], [1]), "new": {"deep": [1]}}
    assert len(decoded(body(entry, more=1)).inputs) == 1


# -- binary ---------------------------------------------------------------------------------------


def binary(*arrays: tuple[str, Array], before: str = "", **fields: Any) -> tuple[bytes, int]:
    """A request with its tensors in binary; `before` makes its JSON longer."""
    blobs = [packed(array) for _, array in arrays]
    inputs = [
        given(f"x{i}", name, list(array.shape), binary_data_size=len(blob))
        for i, ((name, array), blob) in enumerate(zip(arrays, blobs, strict=True))
    ]
    head = before.encode() + body(*inputs, **fields)
    return head + b"".join(blobs), len(head)


@pytest.mark.parametrize("datatype", BINARY_VALUES)
@pytest.mark.parametrize("shift", range(8))
def test_binary_of_every_datatype_wherever_it_lies(datatype: str, shift: int) -> None:
    array = BINARY_VALUES[datatype].reshape(2, 1)
    (tensor,) = decoded(*binary((datatype, array), before=" " * shift)).inputs
    assert tensor.datatype is DATATYPES[datatype]
    assert same(tensor.array, array)
    assert tensor.array.flags.aligned
    assert tensor.array.flags.c_contiguous


def test_binary_tensors_follow_in_the_order_of_the_inputs() -> None:
    arrays = [(name, array) for name, array in BINARY_VALUES.items()]
    found = decoded(*binary(*arrays)).inputs
    for (name, array), tensor in zip(arrays, found, strict=True):
        assert tensor.datatype.name == name
        assert same(tensor.array, array)


def test_json_and_binary_inputs_may_be_mixed() -> None:
    floats = np.array([1.5, 2.5], np.float32)
    head = body(
        given("a", "INT8", [1], [7]),
        given("b", "FP32", [2], binary_data_size=8),
        given("c", "BYTES", [1], ["z"]),
        given("d", "FP32", [2], binary_data_size=8),
    )
    data = head + packed(floats) + packed(-floats)
    found = decoded(data, len(head)).inputs
    assert [t.array.tolist() for t in found] == [[7], [1.5, 2.5], [b"z"], [-1.5, -2.5]]


@pytest.mark.parametrize("datatype", BINARY_VALUES)
def test_binary_without_elements(datatype: str) -> None:
    empty = np.empty((0, 3), DATATYPES[datatype].dtype)
    (tensor,) = decoded(*binary((datatype, empty))).inputs
    assert tensor.array.shape == (0, 3)
    assert tensor.array.dtype == DATATYPES[datatype].dtype


def test_any_byte_but_zero_is_true() -> None:
    head = body(given("x", "BOOL", [4], binary_data_size=4))
    (tensor,) = decoded(head + b"\x00\x01\x02\xff", len(head)).inputs
    assert tensor.array.tolist() == [False, True, True, True]


def test_a_header_length_without_binary_inputs_is_plain_json() -> None:
    head = body(given("x", "FP32", [1], [4]))
    assert decoded(head, len(head)).inputs[0].array.tolist() == [4]


@settings(derandomize=True, deadline=None)
@for_all(st.lists(st.binary(max_size=9), max_size=6))
def test_bytes_elements_are_kept_as_they_are(values: list[bytes]) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    assert decoded(*binary(("BYTES", array))).inputs[0].array.tolist() == values


# -- everything but tensors -----------------------------------------------------------------------


def test_a_plain_request_names_its_model_and_wants_all_in_json() -> None:
    found, form = decode_request("m", "2", body(given("x", "FP32", [1], [1])), None)
    assert (found.model_name, found.model_version) == ("m", "2")
    assert (found.id, found.outputs, found.parameters, found.timeout_us) == ("", None, None, 0)
    assert form is JSON_FORM
    assert not form.is_binary("y")


def test_id_and_outputs_are_kept_in_order() -> None:
    found = decoded(
        body(
            given("x", "FP32", [1], [1]),
            id="abc",
            outputs=[{"name": "b", "parameters": {"classification": 3}}, {"name": "a"}],
        )
    )
    assert found.id == "abc"
    assert found.outputs is not None
    assert [(o.name, o.classification) for o in found.outputs] == [("b", 3), ("a", 0)]


def test_parameters_are_those_that_the_model_may_see() -> None:
    consumed = {
        "binary_data_output": True, "timeout": 5, "priority": 1, "sequence_id": 2,
        "sequence_start": True, "sequence_end": False,
    }  # fmt: skip
    mine = {"a": 1, "b": 2.5, "c": "text", "d": True}
    x = given("x", "FP32", [1], [1])
    found = decoded(body(x, parameters={**consumed, **mine}))
    assert found.parameters == mine
    assert found.timeout_us == 5
    assert decoded(body(x, parameters=consumed)).parameters is None


@pytest.mark.parametrize(
    ("default", "own", "expected"),
    [
        (None, None, False), (None, True, True), (None, False, False), (True, None, True),
        (True, True, True), (True, False, False), (False, None, False), (False, True, True),
    ],
)  # fmt: skip
def test_an_outputs_own_form_goes_before_the_requests(
    default: bool | None, own: bool | None, expected: bool
) -> None:
    parameters = {} if own is None else {"binary_data": own}
    fields: dict[str, Any] = {"outputs": [{"name": "y", "parameters": parameters}]}
    if default is not None:
        fields["parameters"] = {"binary_data_output": default}
    form = decode_request("m", "", body(given("x", "FP32", [1], [1]), **fields), None)[1]
    assert form.is_binary("y") is expected


def test_without_outputs_the_requests_form_is_that_of_all() -> None:
    data = body(given("x", "FP32", [1], [1]), parameters={"binary_data_output": True})
    assert decode_request("m", "", data, None)[1].is_binary("anything")


def nested(depth: int) -> bytes:
    """A request whose JSON is so deep: the data begins at the fourth level."""
    data: Any = "text"
    for _ in range(depth - 3):
        data = [data]
    return json.dumps({"inputs": [given("x", "BYTES", [1], data)]}).encode()


def test_json_may_be_a_hundred_deep() -> None:
    assert decoded(nested(100)).inputs[0].array.tolist() == [b"text"]


def test_many_brackets_side_by_side_are_not_deep() -> None:
    data = [["a"]] * 200
    assert array_of("BYTES", [200], data).tolist() == [b"a"] * 200
