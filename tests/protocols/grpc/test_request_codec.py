from typing import Any

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from tritonclient import grpc as tritonclient
from tritonclient.grpc import service_pb2

from inferd.errors import InferdError, InvalidRequest, Unsupported
from inferd.protocols.grpc.inference.request_codec import (
    HEAVY_BYTES,
    MAX_FIELDS,
    decode_infer,
    is_heavy,
    place_for,
)
from inferd.protocols.http.oip.request_codec import decode_request
from inferd.types.datatype import DATATYPES
from inferd.types.inference import InferenceRequest, SharedPlace
from inferd.types.tensor import Array
from protocols.grpc.wire import (
    CONTENTS,
    add_input,
    add_output,
    add_raw,
    add_typed,
    message,
)
from protocols.http.oip.wire import BINARY_VALUES, JSON_VALUES, body, given, packed, same


def decoded(wire: Any) -> InferenceRequest:
    return decode_infer(wire.SerializeToString())[0]


def only_array(wire: Any) -> Array:
    (tensor,) = decoded(wire).inputs
    assert tensor.array.dtype == tensor.datatype.dtype
    return tensor.array


def refused(wire: Any, kind: type[InferdError] = InvalidRequest) -> str:
    """What is said of a request; the same whether its head was seen before or not."""
    data = wire if isinstance(wire, bytes) else wire.SerializeToString()
    said = []
    for _ in range(2):
        with pytest.raises(kind) as caught:
            decode_infer(data)
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[0]


def typed_values(datatype: str) -> list[Any]:
    values = JSON_VALUES[datatype]
    return [v.encode() for v in values] if datatype == "BYTES" else values


# -- tensors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 1, 2)])
def test_raw_contents_of_every_datatype(datatype: str, shape: tuple[int, ...]) -> None:
    array = BINARY_VALUES[datatype].reshape(shape)
    request = decoded(add_raw(message(), "x", datatype, array))
    (tensor,) = request.inputs
    assert (request.model_name, request.model_version, tensor.name) == ("m", "2", "x")
    assert tensor.datatype is DATATYPES[datatype]
    assert same(tensor.array, array)


@pytest.mark.parametrize("datatype", CONTENTS)
@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 1, 2)])
def test_typed_contents_of_every_datatype(datatype: str, shape: tuple[int, ...]) -> None:
    values = typed_values(datatype)
    found = only_array(add_typed(message(), "x", datatype, shape, values))
    assert same(found, BINARY_VALUES[datatype].reshape(shape)) or datatype == "BYTES"
    assert found.ravel().tolist() == values


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(0,), (0, 4), (2, 0)])
def test_tensors_without_elements(datatype: str, shape: tuple[int, ...]) -> None:
    empty = np.empty(shape, DATATYPES[datatype].dtype)
    assert same(only_array(add_raw(message(), "x", datatype, empty)), empty)
    if datatype in CONTENTS:
        assert same(only_array(add_typed(message(), "x", datatype, shape, [])), empty)


def test_a_tensor_without_dimensions() -> None:
    assert only_array(add_raw(message(), "x", "FP32", np.float32(2.5).reshape(()))).shape == ()
    assert only_array(add_typed(message(), "x", "INT8", (), [3])).tolist() == 3


def test_several_inputs_take_their_raw_contents_in_order() -> None:
    wire = message()
    arrays = [BINARY_VALUES[datatype] for datatype in DATATYPES]
    for number, (datatype, array) in enumerate(zip(DATATYPES, arrays, strict=True)):
        add_raw(wire, f"x{number}", datatype, array)
    for tensor, array in zip(decoded(wire).inputs, arrays, strict=True):
        assert same(tensor.array, array)


def test_any_byte_but_zero_is_true() -> None:
    wire = add_raw(message(), "x", "BOOL", np.zeros(3, np.bool_))
    wire.raw_input_contents[0] = b"\x00\x02\xff"
    assert only_array(wire).tolist() == [False, True, True]


def test_typed_floats_need_not_be_finite() -> None:
    found = only_array(add_typed(message(), "x", "FP32", (2,), [np.inf, np.nan])).tolist()
    assert found[0] == np.inf
    assert np.isnan(found[1])


@pytest.mark.parametrize("elements", [4, 16, 1 << 16])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_raw_contents_are_not_copied(elements: int, kind: Any) -> None:
    array = np.arange(elements, dtype=np.uint8)
    received = kind(add_raw(message(id="abc"), "x", "UINT8", array).SerializeToString())
    (tensor,) = decode_infer(received)[0].inputs
    assert np.shares_memory(tensor.array, np.frombuffer(received, np.uint8))
    assert not tensor.array.flags.writeable
    assert same(tensor.array, array)


def test_raw_contents_that_lie_aligned_are_not_copied_whatever_their_width() -> None:
    array = np.arange(1 << 16, dtype=np.float64)
    shared = []
    for length in range(8):
        data = add_raw(message(model="m" * (length + 1)), "x", "FP64", array).SerializeToString()
        (tensor,) = decode_infer(data)[0].inputs
        assert tensor.array.flags.aligned
        assert same(tensor.array, array)
        shared.append(np.shares_memory(tensor.array, np.frombuffer(data, np.uint8)))
    assert shared.count(True) == 1


@pytest.mark.parametrize("seen", [None, 100])
@pytest.mark.parametrize("length", range(1, 9))
def test_a_message_can_be_placed_so_that_nothing_is_copied(length: int, seen: int | None) -> None:
    array = np.arange(1 << 16, dtype=np.float64)
    wire = add_raw(message("m" * length, id="1"), "x", "FP64", array)
    data = add_raw(wire, "y", "UINT8", np.ones(1, np.uint8)).SerializeToString()
    place = place_for(len(data), data[:seen])
    assert len(place) == len(data)
    place[:] = data
    x, y = decode_infer(place)[0].inputs
    assert np.shares_memory(x.array, np.frombuffer(place, np.uint8))
    assert x.array.ctypes.data % 64 == 0
    assert not x.array.flags.writeable
    assert same(x.array, array)
    assert y.array.tolist() == [1]


@pytest.mark.parametrize(
    "beginning", [b"", b"\x0a", b"\x0a\x05ab", b"\x3a", b"\xff", b"\x0a\xff\xff"]
)
def test_a_place_needs_no_beginning(beginning: bytes) -> None:
    assert len(place_for(10, beginning)) == 10


def test_what_a_head_holds_is_not_written_to() -> None:
    wire = add_typed(message(), "x", "FP32", (2,), [1, 2])
    assert not only_array(wire).flags.writeable
    assert only_array(wire).tolist() == [1, 2]


# -- rules of contents -----------------------------------------------------------------------------


def test_raw_and_typed_contents_do_not_go_together() -> None:
    wire = add_typed(message("simple"), "INPUT0", "INT32", (2,), [1, 2])
    wire.raw_input_contents.append(packed(np.array([1, 2], np.int32)))
    assert refused(wire) == (
        "contents field must not be specified when using raw_input_contents for 'INPUT0' for "
        "model 'simple'"
    )
    mixed = add_typed(
        add_raw(message(), "a", "INT32", np.zeros(2, np.int32)), "b", "INT32", (1,), [1]
    )
    assert "expected 2 raw input contents but got 1 for model 'm'" in refused(mixed)


def test_an_input_without_data() -> None:
    phrase = "unable to find data for input tensor 'b' for model 'm' in request."
    raw = add_raw(message(), "a", "FP32", np.zeros(1, np.float32))
    add_input(raw, "b", "FP32", (1,))
    assert refused(raw) == phrase
    typed = add_typed(message(), "a", "FP32", (1,), [0])
    add_input(typed, "b", "FP32", (1,))
    assert refused(typed) == phrase


def test_raw_contents_that_belong_to_no_input() -> None:
    wire = add_raw(message(), "a", "FP32", np.zeros(1, np.float32))
    wire.raw_input_contents.append(b"")
    assert refused(wire) == "expected 1 raw input contents but got 2 for model 'm'"


@pytest.mark.parametrize("datatype", [name for name in DATATYPES if name != "BYTES"])
@pytest.mark.parametrize("more", [-1, 1])
def test_raw_contents_of_another_size(datatype: str, more: int) -> None:
    wire = add_raw(message(), "x", datatype, BINARY_VALUES[datatype])
    size = len(wire.raw_input_contents[0])
    wire.raw_input_contents[0] = bytes(size + more)
    assert refused(wire) == (
        f"input byte size mismatch for input 'x' for model 'm'. Expected {size}, got {size + more}"
    )


@pytest.mark.parametrize(
    ("raw", "phrase"),
    [
        (b"\x01\x00\x00", "incomplete string length indicator for inference input 'x', expecting "
         "4 bytes but only 3 bytes available. Expecting 1 string elements"),
        (b"\x05\x00\x00\x00ab", "incomplete string data for inference input 'x', expecting string "
         "of length 5 but only 2 bytes available"),
        (b"", "unexpected number of string elements 0 for inference input 'x', expecting 1"),
        (b"\x00\x00\x00\x00" * 2, "unexpected number of string elements 2"),
    ],
)  # fmt: skip
def test_raw_strings_that_are_cut_or_too_many(raw: bytes, phrase: str) -> None:
    wire = message()
    add_input(wire, "x", "BYTES", (1,))
    wire.raw_input_contents.append(raw)
    assert phrase in refused(wire)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_halves_must_be_raw(datatype: str) -> None:
    wire = message()
    add_input(wire, "x", datatype, (2,)).contents.SetInParent()
    assert refused(wire) == (
        f"input 'x': {datatype} data cannot be sent in 'contents'; use raw_input_contents"
    )
    wire.inputs[0].contents.fp32_contents.extend([1, 2])
    assert refused(wire) == (
        "unexpected explicit tensor data for input tensor 'x' for model 'm' of type 'FP32', "
        f"expected datatype '{datatype}', which goes into raw_input_contents"
    )


@pytest.mark.parametrize("datatype", CONTENTS)
def test_contents_of_another_datatype(datatype: str) -> None:
    for other, field in CONTENTS.items():
        if field == CONTENTS[datatype]:
            continue
        wire = add_typed(message(), "x", datatype, (2,), typed_values(datatype))
        getattr(wire.inputs[0].contents, field).extend(typed_values(other)[:1])
        said = refused(wire)
        assert said.startswith(
            "unexpected explicit tensor data for input tensor 'x' for model 'm' of type '"
        )
        assert said.endswith(f"', expected datatype '{datatype}' in '{CONTENTS[datatype]}'")


@pytest.mark.parametrize("datatype", CONTENTS)
def test_contents_of_another_number_than_the_shape_says(datatype: str) -> None:
    wire = add_typed(message(), "x", datatype, (3,), typed_values(datatype))
    assert refused(wire) == (
        f"input 'x': shape [3] needs 3 elements, but '{CONTENTS[datatype]}' has 2"
    )


@pytest.mark.parametrize(
    ("datatype", "value"), [("INT8", 128), ("INT16", -32769), ("UINT8", 256), ("UINT16", 65536)]
)
def test_contents_outside_of_the_range(datatype: str, value: int) -> None:
    wire = add_typed(message(), "x", datatype, (1,), [value])
    said = refused(wire)
    assert f"'{CONTENTS[datatype]}' has values outside of {datatype}'s range" in said


@pytest.mark.parametrize(
    ("shape", "phrase"),
    [
        ((-1,), "input 'x': shape must hold non-negative integers, got [-1]"),
        ((2**62, 4), "causes total element count to exceed maximum size of"),
        ((2**62,), "byte size overflow for input 'x' of shape"),
        ((0, 2**62, 4), "causes total element count to exceed maximum size of"),
        ((1,) * 65, "input 'x': shape has 65 dimensions, at most 64"),
    ],
)
def test_shapes_that_no_array_has(shape: tuple[int, ...], phrase: str) -> None:
    wire = message()
    add_input(wire, "x", "FP32", shape)
    wire.raw_input_contents.append(b"")
    assert phrase in refused(wire)


@pytest.mark.parametrize("datatype", ["", "fp32", "FLOAT", "STRING"])
def test_datatypes_that_are_unknown(datatype: str) -> None:
    wire = message()
    add_input(wire, "x", datatype, (1,))
    wire.raw_input_contents.append(b"")
    assert f"input 'x': unknown datatype '{datatype}'; one of BOOL, " in refused(wire)


# -- parameters ------------------------------------------------------------------------------------


def test_parameters_of_every_kind_reach_the_model() -> None:
    big = service_pb2.InferParameter(uint64_param=2**64 - 1)
    given = {"a": True, "b": -7, "c": 1.5, "d": "é", "e": big}
    found = decoded(message(parameters=given)).parameters
    assert found == {"a": True, "b": -7, "c": 1.5, "d": "é", "e": 2**64 - 1}
    assert {name: type(value) for name, value in (found or {}).items()} == {
        "a": bool, "b": int, "c": float, "d": str, "e": int,
    }  # fmt: skip


def test_values_of_nothing_are_values() -> None:
    given = {"a": False, "b": 0, "c": 0.0, "d": ""}
    assert decoded(message(parameters=given)).parameters == given


def test_a_parameter_without_a_value() -> None:
    wire = message()
    wire.parameters["a"].SetInParent()
    assert refused(wire) == "parameter 'a' has no value"


def test_what_the_server_consumes_does_not_reach_the_model() -> None:
    consumed: dict[str, Any] = {
        "priority": service_pb2.InferParameter(uint64_param=1), "sequence_id": 5,
        "sequence_start": True, "sequence_end": False, "timeout": 2500, "binary_data_output": True,
    }  # fmt: skip
    request = decoded(message(parameters={**consumed, "mine": 1}))
    assert request.parameters == {"mine": 1}
    assert request.timeout_us == 2500
    assert decoded(message(parameters=consumed)).parameters is None


def test_the_end_of_a_stream_may_be_asked_for() -> None:
    key = "triton_enable_empty_final_response"
    for value in (True, False):
        request, wants_end = decode_infer(message(parameters={key: value}).SerializeToString())
        assert wants_end is value
        assert request.parameters is None
    assert decode_infer(message().SerializeToString())[1] is False
    assert refused(message(parameters={key: 1})) == (
        f"invalid value type for '{key}' parameter, expected bool_param."
    )


@pytest.mark.parametrize("key", ["triton_", "triton_final_response", "triton_x"])
def test_other_keys_of_triton_are_reserved(key: str) -> None:
    said = refused(message(parameters={key: True}))
    assert said == f"parameter keys starting with 'triton_' are reserved: '{key}'"


def shared(region: str = "r", byte_size: int = 4, **more: Any) -> dict[str, Any]:
    return {"shared_memory_region": region, "shared_memory_byte_size": byte_size, **more}


def test_shared_memory_is_off_where_nothing_reads_it() -> None:
    wire = message()
    add_input(wire, "x", "FP32", (1,), **shared())
    assert "start the server with --shared-memory system" in refused(wire, Unsupported)


def test_inputs_in_shared_memory_have_no_raw_contents() -> None:
    read = []

    def reader(place: SharedPlace) -> memoryview:
        read.append(place)
        return memoryview(np.float32(place.offset).tobytes())

    wire = message()
    add_input(wire, "a", "FP32", (1,), **shared(shared_memory_offset=8))
    add_raw(wire, "b", "FP32", np.float32([1]))
    add_input(wire, "c", "FP32", (1,), **shared("s"))
    add_raw(wire, "d", "FP32", np.float32([2]))
    request, _ = decode_infer(wire.SerializeToString(), reader)
    assert [(t.name, t.array.tolist()) for t in request.inputs] == [
        ("a", [8]), ("b", [1]), ("c", [0]), ("d", [2]),
    ]  # fmt: skip
    assert read == [SharedPlace("r", 8, 4), SharedPlace("s", 0, 4)]
    for contents, said in (([b"more"], "expected 2 raw input contents but got 3"),
                           ([b"more"] * 2, "contents field must not be specified")):  # fmt: skip
        wire.raw_input_contents.extend(contents[:1])
        with pytest.raises(InvalidRequest, match=said):
            decode_infer(wire.SerializeToString(), reader)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (shared(byte_size=-1), "'shared_memory_byte_size' must be a number of bytes, got -1"),
        (shared(shared_memory_offset="8"), "'shared_memory_offset' must be a number of bytes"),
        ({"shared_memory_region": 3}, "'shared_memory_region' must be a name, got 3"),
        ({"shared_memory_region": "r"}, "'shared_memory_byte_size' must be a number of bytes"),
    ],
)
def test_places_in_shared_memory_that_cannot_be(parameters: dict[str, Any], said: str) -> None:
    wire = message()
    add_input(wire, "x", "FP32", (1,), **parameters)
    assert said in refused(wire)
    assert said in refused(add_output(message(), "y", **parameters))


def test_contents_and_shared_memory() -> None:
    wire = add_typed(message(), "x", "FP32", (1,), [1.0])
    wire.inputs[0].parameters["shared_memory_region"].string_param = "r"
    wire.inputs[0].parameters["shared_memory_byte_size"].int64_param = 4
    assert "has both 'contents' and 'shared_memory_region'" in refused(wire)


def test_outputs_in_shared_memory() -> None:
    found = decoded(add_output(message(), "y", **shared(shared_memory_offset=8))).outputs
    assert found is not None
    assert [output.shared for output in found] == [SharedPlace("r", 8, 4)]
    assert "can't set both 'shared_memory_region' and 'classification'" in refused(
        add_output(message(), "y", classification=3, **shared())
    )


def test_outputs_that_are_asked_for() -> None:
    wire = add_output(add_output(message(), "y", classification=3), "z", binary_data=False)
    found = decoded(wire).outputs
    assert found is not None
    assert [(output.name, output.classification) for output in found] == [("y", 3), ("z", 0)]
    assert decoded(message()).outputs is None
    assert "'classification' must be a positive integer" in refused(
        add_output(message(), "y", classification="3")
    )


def test_a_parameter_of_an_input_that_means_nothing_is_passed_over() -> None:
    wire = message()
    add_input(wire, "x", "UINT8", (1,), binary_data_size=1, mine="x")
    wire.raw_input_contents.append(b"\x01")
    assert only_array(wire).tolist() == [1]


# -- bytes -----------------------------------------------------------------------------------------


def test_ids() -> None:
    wire = add_raw(message(), "x", "UINT8", np.ones(1, np.uint8))
    for id in ("", "1", "é" * 200, "0" * 20000):
        wire.id = id
        request = decoded(wire)
        assert request.id == id
        assert request.inputs[0].array.tolist() == [1]
    data = wire.SerializeToString()
    assert "the request's id is not UTF-8" in refused(data + b"\x1a\x01\xff")


def test_fields_may_come_in_any_order_and_more_than_once() -> None:
    wire = add_raw(message(id="1"), "x", "UINT8", np.array([1, 2], np.uint8))
    add_raw(wire, "y", "UINT8", np.array([3], np.uint8))
    fields = [
        service_pb2.ModelInferRequest(raw_input_contents=[b"\x01\x02"]),
        service_pb2.ModelInferRequest(id="0"),
        service_pb2.ModelInferRequest(inputs=wire.inputs),
        service_pb2.ModelInferRequest(id="1", model_name="other"),
        service_pb2.ModelInferRequest(raw_input_contents=[b"\x03"]),
        service_pb2.ModelInferRequest(model_version="2", model_name="m"),
    ]
    request, _ = decode_infer(b"".join([field.SerializeToString() for field in fields]))
    assert (request.model_name, request.model_version, request.id) == ("m", "2", "1")
    assert [tensor.array.tolist() for tensor in request.inputs] == [[1, 2], [3]]


@pytest.mark.parametrize(
    "unknown", [b"\x40\x05", b"\x45abcd", b"\x41abcdefgh", b"\x82\x01\x01x", b"\x43\x08\x01\x44"]
)
def test_fields_that_are_unknown_are_passed_over(unknown: bytes) -> None:
    data = add_raw(message(id="1"), "x", "UINT8", np.array([7], np.uint8)).SerializeToString()
    for whole in (unknown + data, data + unknown):
        request, _ = decode_infer(whole)
        assert request.inputs[0].array.tolist() == [7]
        assert request.id == "1"


def test_lengths_may_be_written_with_more_bytes_than_they_need() -> None:
    data = add_raw(message(""), "x", "UINT8", np.array([7], np.uint8)).SerializeToString()
    for padded in (b"\x0a\x81\x00m", b"\x0a\x81\x80\x80\x80\x00m", b"\x8a\x00\x01m"):
        request, _ = decode_infer(padded + data)
        assert (request.model_name, request.inputs[0].array.tolist()) == ("m", [7])


@pytest.mark.parametrize(
    "junk",
    [b"\x00", b"\x0a", b"\x0a\x05ab", b"\xff" * 12, b"\x3a\xff\xff\xff\xff\x0f", b"\x0f",
     b"\x2a\x01\x0a", b"\x0a\x01\xff", b"GET / HTTP/1.1\r\n",
     b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"],
)  # fmt: skip
def test_junk_is_refused(junk: bytes) -> None:
    assert "the message is no inference.ModelInferRequest" in refused(junk)


def test_every_cut_of_a_message_is_refused_or_says_less() -> None:
    wire = add_raw(message(id="1", parameters={"a": 1}), "x", "FP32", np.zeros(4, np.float32))
    data = add_output(wire, "y", classification=2).SerializeToString()
    for end in range(len(data)):
        try:
            theirs = service_pb2.ModelInferRequest.FromString(data[:end])
        except Exception:
            assert "the message is no inference.ModelInferRequest" in refused(data[:end])
        else:
            agree(theirs, data[:end])


@for_all(st.binary(max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_read_as_protobuf_reads_them(data: bytes) -> None:
    try:
        theirs = service_pb2.ModelInferRequest.FromString(data)
    except Exception:
        with pytest.raises(InvalidRequest):
            decode_infer(data)
    else:
        agree(theirs, data)


def agree(theirs: Any, data: bytes) -> None:
    """What we make of bytes is what we make of the message that they are to protobuf."""
    outcomes: list[Any] = []
    for written in (data, theirs.SerializeToString()):
        try:
            request, wants_end = decode_infer(written)
            outcomes.append((summary(request), wants_end))
        except InferdError as error:
            outcomes.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]
    if isinstance(outcomes[0][0], dict):
        assert outcomes[0][0]["id"] == theirs.id
        assert outcomes[0][0]["model"] == (theirs.model_name, theirs.model_version)


def summary(request: InferenceRequest) -> dict[str, Any]:
    return {
        "model": (request.model_name, request.model_version),
        "id": request.id,
        "inputs": [
            (t.name, t.datatype.name, t.array.shape, t.array.dtype, packed(t.array))
            for t in request.inputs
        ],
        "outputs": request.outputs and [(o.name, o.classification) for o in request.outputs],
        "parameters": request.parameters
        and {k: (type(v), v) for k, v in request.parameters.items()},
        "timeout": request.timeout_us,
    }


def test_so_many_fields_and_no_more() -> None:
    wire = message("", "")
    wire.raw_input_contents.extend([b""] * MAX_FIELDS)
    assert f"expected 0 raw input contents but got {MAX_FIELDS}" in refused(wire)
    wire.raw_input_contents.append(b"")
    assert refused(wire) == f"the request has more than {MAX_FIELDS} fields"


def test_what_is_heavy() -> None:
    raw = add_raw(message(), "x", "UINT8", np.zeros(4 * HEAVY_BYTES, np.uint8))
    assert not is_heavy(raw.SerializeToString())
    typed = add_typed(message(), "x", "UINT64", (HEAVY_BYTES,), [0] * HEAVY_BYTES)
    assert is_heavy(typed.SerializeToString())
    assert not is_heavy(add_typed(message(), "x", "INT8", (1,), [0]).SerializeToString())
    assert is_heavy(b"\xff" * (HEAVY_BYTES + 1))


# -- as others write and read ----------------------------------------------------------------------


def test_what_tritonclient_writes() -> None:
    x = tritonclient.InferInput("x", [2, 2], "FP32")
    x.set_data_from_numpy(np.array([[1, 2], [3, 4]], np.float32))
    s = tritonclient.InferInput("s", [2], "BYTES")
    s.set_data_from_numpy(np.array([b"a", b""], object))
    asked = [
        tritonclient.InferRequestedOutput("y"),
        tritonclient.InferRequestedOutput("z", class_count=2),
    ]
    wire = tritonclient._utils._get_inference_request(
        "m", [x, s], "3", "id", asked, 7, True, False, 1, 500, {"mine": "x"}
    )
    request = decoded(wire)
    assert (request.model_name, request.model_version, request.id) == ("m", "3", "id")
    assert [t.array.tolist() for t in request.inputs] == [[[1, 2], [3, 4]], [b"a", b""]]
    assert [(o.name, o.classification) for o in request.outputs or ()] == [("y", 0), ("z", 2)]
    assert request.parameters == {"mine": "x"}
    assert request.timeout_us == 500


names = st.sampled_from(["x", "y", "é", "timeout", "triton_x", "mine", "binary_data_output"])
values: Any = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)  # fmt: skip
shapes = st.lists(st.integers(-1, 3), max_size=3)


@st.composite
def requests(draw: Any, raw: bool) -> dict[str, Any]:
    """A request that may be wrong in any way that both protocols can say."""
    inputs = []
    for _ in range(draw(st.integers(0, 3))):
        datatype = draw(st.sampled_from(sorted(DATATYPES if raw else CONTENTS)))
        examples = BINARY_VALUES[datatype].tolist()
        shape = draw(shapes)
        count = int(np.prod([max(0, dim) for dim in shape])) + draw(st.sampled_from([0, 0, 0, 1]))
        if datatype == "BYTES" and not raw:
            examples = typed_values(datatype)
        elements = [draw(st.sampled_from(examples)) for _ in range(count)]
        inputs.append((draw(names), datatype, shape, elements))
    return {
        "inputs": inputs,
        "id": draw(st.sampled_from(["", "1", "é"])),
        "parameters": draw(st.dictionaries(names, values, max_size=2)),
        "outputs": draw(
            st.lists(st.tuples(names, st.dictionaries(
                st.sampled_from(["classification", "binary_data", "shared_memory_region"]),
                st.sampled_from([True, 0, 2, -1, "a"]), max_size=1)), max_size=2)
        ),
    }  # fmt: skip


def outcome(decode: Any) -> Any:
    try:
        return summary(decode()[0])
    except InferdError as error:
        return type(error), str(error)


@for_all(requests(raw=True))
@settings(max_examples=300, deadline=None)
def test_raw_requests_are_read_as_those_in_binary_over_http(request: dict[str, Any]) -> None:
    wire = message(id=request["id"], parameters=request["parameters"])
    http, blobs = [], []
    for name, datatype, shape, elements in request["inputs"]:
        blob = packed(np.array(elements, DATATYPES[datatype].dtype))
        add_input(wire, name, datatype, shape)
        wire.raw_input_contents.append(blob)
        http.append(given(name, datatype, shape, binary_data_size=len(blob)))
        blobs.append(blob)
    head = http_body(http, wire, request)
    found = outcome(lambda: decode_infer(wire.SerializeToString()))
    expected = outcome(lambda: decode_request("m", "2", head + b"".join(blobs), len(head)))
    if isinstance(expected, tuple) and (len(http) > 1 or request["outputs"]):
        assert isinstance(found, tuple)  # of several faults the one or the other is told
    else:
        assert found == expected


@for_all(requests(raw=False))
@settings(max_examples=300, deadline=None)
def test_typed_requests_are_read_as_those_in_json_over_http(request: dict[str, Any]) -> None:
    wire = message(id=request["id"], parameters=request["parameters"])
    http = []
    for name, datatype, shape, elements in request["inputs"]:
        add_typed(wire, name, datatype, shape, elements)
        data = [e.decode() for e in elements] if datatype == "BYTES" else elements
        http.append(given(name, datatype, shape, data))
    data = http_body(http, wire, request)
    found = outcome(lambda: decode_infer(wire.SerializeToString()))
    expected = outcome(lambda: decode_request("m", "2", data, None))
    if isinstance(expected, tuple):
        assert isinstance(found, tuple)  # their fields have other names
    else:
        assert found == expected


def http_body(inputs: list[Any], wire: Any, request: dict[str, Any]) -> bytes:
    """The same in JSON; adds what is asked for to the message."""
    outputs = []
    for name, parameters in request["outputs"]:
        add_output(wire, name, **parameters)
        outputs.append({"name": name, "parameters": parameters})
    fields: dict[str, Any] = {"id": request["id"], "parameters": request["parameters"]}
    if outputs:
        fields["outputs"] = outputs
    return body(*inputs, **fields)
