from typing import Any

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from tritonclient import grpc as tritonclient
from tritonclient.grpc import service_pb2

from inferd.errors import InvalidRequest
from inferd.protocols.grpc.inference.response_codec import (
    COPY_BYTES,
    encode_infer,
    encode_stream_error,
    encode_stream_infer,
)
from inferd.types.datatype import DATATYPES, FP32
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.tensor import Array, Tensor
from protocols.grpc.wire import joined
from protocols.http.oip.wire import BINARY_VALUES, packed


def response(*arrays: tuple[str, Array], **more: Any) -> InferenceResponse:
    outputs = [
        Tensor(f"y{number}", DATATYPES[datatype], array)
        for number, (datatype, array) in enumerate(arrays)
    ]
    return InferenceResponse("m", "2", outputs, **more)


def read(encoded: Any) -> Any:
    return service_pb2.ModelInferResponse.FromString(joined(encoded))


def expected(answer: InferenceResponse) -> Any:
    """The same, written by Triton's own classes."""
    wire = service_pb2.ModelInferResponse(
        model_name=answer.model_name, model_version=answer.model_version, id=answer.id
    )
    for tensor in answer.outputs:
        wire.outputs.add(name=tensor.name, datatype=tensor.datatype.name, shape=tensor.array.shape)
        wire.raw_output_contents.append(packed(tensor.array))
    return wire


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 1, 2)])
@pytest.mark.parametrize("id", ["", "é1"])
def test_every_datatype(datatype: str, shape: tuple[int, ...], id: str) -> None:
    answer = response((datatype, BINARY_VALUES[datatype].reshape(shape)), id=id)
    assert joined(encode_infer(answer)) == expected(answer).SerializeToString()


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 2**40)])
def test_outputs_without_elements(datatype: str, shape: tuple[int, ...]) -> None:
    answer = response((datatype, np.empty(shape, DATATYPES[datatype].dtype)))
    assert read(encode_infer(answer)) == expected(answer)


def test_an_output_without_dimensions() -> None:
    answer = response(("FP32", np.array(2.5, np.float32)))
    assert read(encode_infer(answer)) == expected(answer)


@for_all(
    st.lists(
        st.tuples(st.sampled_from(sorted(DATATYPES)), st.integers(0, 200), st.booleans()),
        max_size=4,
    ),
    st.sampled_from(["", "1", "x" * 300]),
)
@settings(max_examples=200, deadline=None)
def test_any_number_of_outputs_of_any_size(outputs: list[tuple[str, int, bool]], id: str) -> None:
    arrays = []
    for datatype, count, reverse in outputs:
        array = np.resize(BINARY_VALUES[datatype], count)
        arrays.append((datatype, array[::-1] if reverse else array))
    answer = response(*arrays, id=id)
    assert joined(encode_infer(answer)) == expected(answer).SerializeToString()


def test_rows_that_do_not_lie_together() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    answer = response(("FP32", array))
    assert read(encode_infer(answer)) == expected(answer)
    large = np.arange(COPY_BYTES, dtype=np.float32).reshape(2, -1).T
    assert read(encode_infer(response(("FP32", large)))) == expected(response(("FP32", large)))


def test_large_outputs_are_left_where_they_are() -> None:
    large = np.arange(COPY_BYTES, dtype=np.float32)
    for answer in (
        response(("FP32", large)),
        response(("FP32", large), ("INT8", np.ones(2, np.int8))),
    ):
        encoded = encode_infer(answer)
        assert isinstance(encoded, list)
        views = [np.frombuffer(part, np.uint8) for part in encoded]
        assert any(np.shares_memory(view, large) for view in views)
        assert sum(view.size for view in views if not np.shares_memory(view, large)) < 200
        assert read(encoded) == expected(answer)
        streamed = encode_stream_infer(answer, final=True)
        assert isinstance(streamed, list)
        assert any(np.shares_memory(np.frombuffer(part, np.uint8), large) for part in streamed)


def test_small_answers_are_one_piece() -> None:
    assert isinstance(
        encode_infer(response(("FP32", np.zeros(COPY_BYTES // 8, np.float32)))), bytes
    )


def test_the_same_output_with_another_shape_or_name_is_another() -> None:
    for shape in ((1, 4), (4, 1), (4,), (2, 2)):
        for name in ("a", "b"):
            tensor = Tensor(name, FP32, np.arange(4, dtype=np.float32).reshape(shape))
            answer = InferenceResponse("m", "1", [tensor])
            assert read(encode_infer(answer)) == expected(answer)


def test_parameters_of_every_kind() -> None:
    given: dict[str, Any] = {
        "a": True, "b": 1, "c": 1.0, "d": "é", "e": 2**64 - 1, "f": -(2**63), "g": False, "h": 0,
    }  # fmt: skip
    wire = read(encode_infer(response(("INT8", np.ones(1, np.int8)), parameters=given)))
    found = {}
    for name, value in wire.parameters.items():
        found[name] = value.WhichOneof("parameter_choice")
        assert getattr(value, found[name]) == given[name]
    assert found == {
        "a": "bool_param", "b": "int64_param", "c": "double_param", "d": "string_param",
        "e": "uint64_param", "f": "int64_param", "g": "bool_param", "h": "int64_param",
    }  # fmt: skip


def test_a_number_beyond_all_integers_is_sent_as_a_float() -> None:
    wire = read(encode_infer(response(parameters={"a": 2**70})))
    assert wire.parameters["a"].double_param == 2.0**70


def test_what_tritonclient_reads() -> None:
    array = np.array([[b"a", b""], [b"\xff", b"b"]], object)
    answer = response(("BYTES", array), ("FP16", np.array([1.5], np.float16)), id="7")
    result = tritonclient.InferResult(read(encode_infer(answer)))
    assert result.as_numpy("y0").tolist() == array.tolist()
    assert result.as_numpy("y1").tolist() == [1.5]
    assert result.get_response().id == "7"


def stream_read(encoded: Any) -> Any:
    return service_pb2.ModelStreamInferResponse.FromString(joined(encoded))


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("elements", [1, 40, 400, COPY_BYTES])
def test_answers_of_a_stream_say_whether_they_are_the_last(final: bool, elements: int) -> None:
    answer = response(("FP32", np.arange(elements, dtype=np.float32)), id="1", parameters={"a": 1})
    wire = stream_read(encode_stream_infer(answer, final))
    assert wire.error_message == ""
    found = wire.infer_response
    assert found.parameters["triton_final_response"].bool_param is final
    assert found.parameters["triton_final_response"].HasField("bool_param")
    assert found.parameters["a"].int64_param == 1
    assert (found.id, found.model_name, found.model_version) == ("1", "m", "2")
    assert found.raw_output_contents == expected(answer).raw_output_contents


def test_errors_of_a_stream_name_their_request() -> None:
    request = InferenceRequest("m", "", [], id="7")
    wire = stream_read(encode_stream_error(request, InvalidRequest("wrong: é\ud800")))
    assert wire.error_message == "wrong: é?"
    found = wire.infer_response
    assert (found.id, found.model_name, found.model_version) == ("7", "m", "")
    assert found.parameters["triton_final_response"].bool_param
    assert not found.outputs


def test_an_error_of_what_could_not_be_read_names_nothing() -> None:
    wire = stream_read(encode_stream_error(None, InvalidRequest("junk")))
    assert wire.error_message == "junk"
    assert wire.infer_response.id == ""
