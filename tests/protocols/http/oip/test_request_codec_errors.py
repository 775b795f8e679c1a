"""What a request's body can have wrong, and what its sender is told."""

import json
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from inferd.errors import InferdError, InvalidRequest, Unsupported
from inferd.protocols.depth import check_depth
from inferd.protocols.http.oip.request_codec import decode_request
from protocols.http.oip.test_request_codec import nested
from protocols.http.oip.wire import body, given

X = given("x", "FP32", [1], [1])


def refusal(data: bytes, header_length: int | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode_request("m", "", data, header_length)
    return str(caught.value)


def of_input(datatype: str, shape: list[int], data: Any) -> str:
    return refusal(body(given("x", datatype, shape, data)))


# -- not a request --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"{", b"nonsense", b"[]", b"{}", b'"x"', b"null", b'{"inputs":{}}', b'{"inputs":[1]}',
        b'{"inputs":[{}]}', b'{"inputs":[{"name":1,"shape":[1],"datatype":"FP32"}]}',
        b'{"inputs":[{"name":"x","shape":[1.5],"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"x","shape":["1"],"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"x","shape":1,"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1],"parameters":{"a":[]}}]}',
        b'{"inputs":[],"id":7}', b'{"inputs":[],"parameters":[]}', b'{"inputs":[],"outputs":{}}',
        b'{"inputs":[]} x', b"\xff\xfe{}", b'{"inputs":[{"name":"\xff"}]}', b'{"inputs":[NaN]}',
        b"NaN", b'{"inputs":[Infinity}', b'{"id":"\\ud800","inputs":[]}',
    ],
)  # fmt: skip
def test_what_is_not_a_request_is_refused(data: bytes) -> None:
    assert refusal(data).startswith("failed to parse the request JSON buffer: ")


@pytest.mark.parametrize("data", [b"", b" \r\n"])
def test_nothing_is_an_empty_document(data: bytes) -> None:
    assert refusal(data).endswith("The document is empty.")


@pytest.mark.parametrize("depth", [101, 102, 5000, 200_000])
def test_json_deeper_than_a_hundred_is_refused(depth: int) -> None:
    data = nested(100).replace(b'"text"', b"[" * (depth - 100) + b'"text"' + b"]" * (depth - 100))
    assert refusal(data) == "JSON nesting depth exceeds maximum allowed limit (100)"
    objects = b'{"inputs":' + b'{"a":' * (depth - 1) + b"1" + b"}" * depth
    assert "JSON nesting depth exceeds maximum allowed limit (100)" in refusal(objects)


def test_depth_is_that_of_the_deepest_place() -> None:
    check_depth(b"[" * 100 + b"]" * 100)
    with pytest.raises(InvalidRequest):
        check_depth(b"[" * 101 + b"]" * 101)


def test_an_id_that_cannot_be_sent_back_is_refused() -> None:
    """The lenient way for NaN takes lone surrogates, which no answer can hold."""
    data = b'{"id":"\\ud800","inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}'
    assert "a text has half of a surrogate pair" in refusal(data)


def test_what_is_wrong_beside_a_nan_is_told_and_not_the_nan() -> None:
    assert "Expecting value: line 1 column 27" in refusal(b'{"inputs":[NaN],"outputs":nope}')


# -- tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [[2], [1, 2], [0], [2, 3], []])
def test_elements_must_be_as_many_as_the_shape_says(shape: list[int]) -> None:
    message = of_input("FP32", shape, [1.0, 2.0, 3.0])
    assert "input 'x'" in message
    assert "'data' has 3" in message


@pytest.mark.parametrize("shape", [[-1], [-1, -1], [1, -3], [-(2**70)]])
def test_dimensions_are_never_negative(shape: list[int]) -> None:
    assert "input 'x': shape must hold non-negative integers" in of_input("FP32", shape, [1.0])


@pytest.mark.parametrize("shape", [[2**63], [2**32, 2**31], [2**70, 0], [2**40, 2**40]])
def test_more_elements_than_can_be_are_refused(shape: list[int]) -> None:
    message = of_input("UINT8", shape, [1])
    assert "causes total element count to exceed maximum size of 9223372036854775807" in message


@pytest.mark.parametrize("shape", [[0, 2**62], [2**62, 0], [0, 2**40, 2**40]])
@pytest.mark.parametrize("datatype", ["FP32", "FP64", "BYTES"])
def test_no_elements_of_dimensions_that_cannot_be_are_refused(
    datatype: str, shape: list[int]
) -> None:
    of_input(datatype, shape, [])
    assert "input 'x'" in in_binary(b"", datatype, shape)


def test_more_bytes_than_can_be_are_refused() -> None:
    assert "byte size overflow for input 'x'" in of_input("FP64", [2**61], [1])
    assert "byte size overflow for input 'x'" in of_input("BYTES", [2**62], ["a"])


def test_more_dimensions_than_an_array_has_are_refused() -> None:
    assert "65 dimensions, at most 64" in of_input("FP32", [1] * 65, [1])


def test_an_unknown_datatype_is_named_with_those_there_are() -> None:
    message = of_input("FLOAT", [1], [1])
    assert "unknown datatype 'FLOAT'" in message
    assert "FP32" in message


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP32", ["1"]), ("FP32", [None]), ("FP32", [True]), ("FP32", [{}]), ("FP32", [1, "a"]),
        ("FP32", [True, 1.5]), ("FP64", [False, 2]), ("FP64", [None, 1.5]),
        ("INT32", [1.0]), ("INT32", [1.5]), ("INT32", [True]), ("INT32", ["1"]), ("INT8", [None]),
        ("INT64", [True, 3]), ("UINT8", [1, 2.0]),
        ("BOOL", [1]), ("BOOL", [0.0]), ("BOOL", ["true"]), ("BOOL", [True, 1]), ("BOOL", [None]),
        ("BYTES", [1]), ("BYTES", [None]), ("BYTES", [True]), ("BYTES", [{}]), ("BYTES", ["a", 1]),
        ("BYTES", [["a"], [2]]),
    ],
)  # fmt: skip
def test_values_of_another_kind_are_refused(datatype: str, data: list[Any]) -> None:
    assert "input 'x'" in of_input(datatype, [len(data)], data)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("UINT8", -1), ("UINT8", 256), ("INT8", -129), ("INT8", 128), ("UINT16", 65536),
        ("INT16", 32768), ("UINT32", 2**32), ("INT32", -(2**31) - 1), ("INT32", 2**31),
        ("UINT64", -1), ("UINT64", 2**64), ("INT64", 2**63), ("INT64", -(2**63) - 1),
        ("INT64", 10**400),
    ],
)  # fmt: skip
def test_integers_out_of_range_are_refused(datatype: str, value: int) -> None:
    assert datatype in of_input(datatype, [1], [value])
    of_input(datatype, [2], [1, value])


@pytest.mark.parametrize("datatype", ["FP32", "INT32", "BOOL"])
def test_ragged_data_is_refused(datatype: str) -> None:
    assert "'data' is not a regular array" in of_input(datatype, [3], [[1, 2], [3]])


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_halves_are_not_sent_in_json(datatype: str) -> None:
    assert f"{datatype} data cannot be sent in JSON" in of_input(datatype, [1], [1.0])


def test_data_is_an_array() -> None:
    assert "'data' must be an array" in of_input("FP32", [1], {"a": 1})
    assert "has no data" in of_input("FP32", [1], None)


# -- binary ---------------------------------------------------------------------------------------


def in_binary(
    blob: bytes, datatype: str = "FP32", shape: list[int] | None = None, **more: Any
) -> str:
    parameters = {"binary_data_size": len(blob), **more}
    head = body(given("x", datatype, [2] if shape is None else shape, None, **parameters))
    return refusal(head + blob, len(head))


@pytest.mark.parametrize("size", [0, 4, 7, 9, 12])
def test_binary_size_must_be_that_of_the_shape(size: int) -> None:
    message = in_binary(b"\x00" * size)
    assert "input byte size mismatch for input 'x' for model 'm'" in message
    assert f"Expected 8, got {size}" in message


def test_a_body_that_ends_too_soon_is_refused() -> None:
    assert "unexpected end of request: input 'x'" in in_binary(b"\x00" * 4, binary_data_size=8)


@pytest.mark.parametrize("size", [-1, 1.5, "8", True, 2**70])
def test_binary_size_is_a_whole_number(size: Any) -> None:
    assert "input 'x'" in in_binary(b"\x00" * 8, binary_data_size=size)


def test_bytes_behind_the_last_input_are_refused() -> None:
    head = body(X)
    message = refusal(head + b"!", len(head))
    assert "unexpected additional input data for model 'm': 1 bytes" in message


def test_binary_size_needs_the_header_that_says_where_the_json_ends() -> None:
    for fields in ({}, {"id": "a"}):
        data = body(given("x", "FP32", [1], binary_data_size=4), **fields)
        assert "no 'Inference-Header-Content-Length' header" in refusal(data)


def test_data_comes_in_one_way_only() -> None:
    head = body(given("x", "FP32", [1], [1.0], binary_data_size=4))
    assert "both 'data' and 'binary_data_size'" in refusal(head + b"\x00" * 4, len(head))


@pytest.mark.parametrize(
    ("blob", "count", "message"),
    [
        (b"\x01", 1, "incomplete string length indicator for inference input 'x'"),
        (b"\x01\x00\x00", 1, "expecting 4 bytes but only 3 bytes available"),
        (b"\x01\x00", 1, "incomplete string length indicator for inference input 'x'"),
        (b"\x01\x00\x00\x00aXY", 2, "expecting 4 bytes but only 2 bytes available"),
        (b"\x05\x00\x00\x00abc", 1, "expecting string of length 5 but only 3 bytes available"),
        (b"\xff\xff\xff\xffabc", 1, "incomplete string data for inference input 'x'"),
        (b"\x00" * 8, 1, "unexpected number of string elements 2 for inference input 'x'"),
        (b"\x00" * 4, 3, "expecting 3"),
        (b"", 1, "unexpected number of string elements 0"),
    ],
)
def test_bytes_elements_that_do_not_fit_are_refused(blob: bytes, count: int, message: str) -> None:
    assert message in in_binary(blob, "BYTES", [count])


# -- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"binary_data_output": 1}, "'binary_data_output' must be true or false"),
        ({"binary_data_output": "true"}, "'binary_data_output' must be true or false"),
        ({"timeout": -1}, "'timeout' must be a non-negative integer"),
        ({"timeout": 1.5}, "'timeout' must be a non-negative integer"),
        ({"timeout": "5"}, "'timeout' must be a non-negative integer"),
        ({"timeout": True}, "'timeout' must be a non-negative integer"),
        ({"triton_x": 1}, "starting with 'triton_' are reserved: 'triton_x'"),
    ],
)
def test_request_parameters_are_checked(parameters: dict[str, Any], message: str) -> None:
    assert message in refusal(body(X, parameters=parameters))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"binary_data": 1}, "'binary_data' must be true or false"),
        ({"classification": -1}, "'classification' must be a positive integer"),
        ({"classification": 1.0}, "'classification' must be a positive integer"),
        ({"classification": True}, "'classification' must be a positive integer"),
        ({"classification": "3"}, "'classification' must be a positive integer"),
    ],
)
def test_output_parameters_are_checked(parameters: dict[str, Any], message: str) -> None:
    found = refusal(body(X, outputs=[{"name": "y", "parameters": parameters}]))
    assert message in found
    assert "output 'y'" in found


SHARED = {"shared_memory_region": "r", "shared_memory_byte_size": 4}


def without_data(**parameters: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1], "parameters": parameters}


def test_shared_memory_is_off_where_nothing_reads_it() -> None:
    with pytest.raises(Unsupported, match="start the server with --shared-memory system"):
        decode_request("m", "", body(without_data(**SHARED)), None)


def test_an_input_lies_in_one_place() -> None:
    two = without_data(**SHARED, binary_data_size=4), without_data(**SHARED) | {"data": [1.0]}
    for wire in two:
        assert "has data and 'shared_memory_region'" in refusal(body(wire))
    header = body(two[0])
    assert "has data and 'shared_memory_region'" in refusal(header + bytes(4), len(header))


def test_a_place_needs_its_size() -> None:
    wanted = {"name": "y", "parameters": {"shared_memory_region": "r"}}
    assert "'shared_memory_byte_size' must be a number of bytes" in refusal(
        body(X, outputs=[wanted])
    )


# -- whatever comes -------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
shapes = st.lists(st.integers(-1, 4) | st.integers(-(2**70), 2**70), max_size=4)
"""Most of them are fine, or wrong in a way that must be noticed."""
datatypes = st.sampled_from(["FP32", "FP64", "INT64", "UINT8", "BOOL", "BYTES", "FP16", "X"])


@settings(derandomize=True, deadline=None, max_examples=300)
@for_all(shapes, datatypes, values, st.dictionaries(st.text(max_size=5), values, max_size=2))
def test_any_json_is_a_request_or_an_error_of_ours(
    shape: list[int], datatype: str, data: Any, parameters: dict[str, Any]
) -> None:
    entry = {"name": "x", "shape": shape, "datatype": datatype, "data": data}
    for fields in ({}, {"parameters": parameters}):
        wire = json.dumps({"inputs": [entry], **fields}).encode()
        try:
            request, _ = decode_request("m", "", wire, None)
        except InferdError:
            continue
        assert list(request.inputs[0].array.shape) == shape


@settings(derandomize=True, deadline=None, max_examples=300)
@for_all(st.binary(max_size=40), shapes, datatypes, st.integers(-1, 50), st.integers(0, 200))
def test_any_binary_is_a_request_or_an_error_of_ours(
    blob: bytes, shape: list[int], datatype: str, size: int, length: int
) -> None:
    head = body(given("x", datatype, shape, None, binary_data_size=size))
    for header_length in (len(head), length):
        try:
            request, _ = decode_request("m", "", head + blob, header_length)
        except InferdError:
            continue
        assert list(request.inputs[0].array.shape) == shape
