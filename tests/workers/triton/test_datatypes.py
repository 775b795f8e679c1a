import numpy as np
import pytest

from inferd.types.datatype import BYTES, FP32
from inferd.workers.triton.datatypes import (
    deserialize_bytes_tensor,
    kind_of,
    numpy_to_triton_type,
    serialize_byte_tensor,
    texts,
    triton_string_to_numpy,
    triton_to_numpy_type,
)
from inferd.workers.triton.error import TritonModelException


def test_numbers_are_those_of_triton() -> None:
    assert [triton_to_numpy_type(number) for number in (1, 9, 11, 13, 14, 0)] == [
        np.bool_, np.int64, np.float32, np.object_, None, None,
    ]  # fmt: skip
    assert [numpy_to_triton_type(kind) for kind in (np.bool_, np.uint8, np.bytes_, np.str_)] == [
        1, 2, 13, None,
    ]  # fmt: skip


def test_names_of_a_configuration() -> None:
    assert triton_string_to_numpy("TYPE_FP32") is np.float32
    assert triton_string_to_numpy("TYPE_STRING") is np.object_
    assert triton_string_to_numpy("TYPE_BOOL") is bool


def test_texts_of_any_kind_become_bytes() -> None:
    assert texts(np.array(["é", 3, b"\xff"], object)).tolist() == ["é".encode(), b"3", b"\xff"]
    assert texts(np.array([["a"], ["b"]])).tolist() == [[b"a"], [b"b"]]
    assert texts(np.array([b"a"])).tolist() == [b"a"]


def test_bytes_tensors_there_and_back() -> None:
    array = np.array([[b"a", b""], [b"\x00\x01", b"c"]], object)
    encoded = serialize_byte_tensor(array)
    assert encoded[:5] == b"\x01\x00\x00\x00a"
    assert deserialize_bytes_tensor(encoded).tolist() == array.ravel().tolist()
    assert serialize_byte_tensor(np.zeros(0, object)) == ()
    assert serialize_byte_tensor(np.zeros(2, np.float32)) is None


def test_kinds() -> None:
    assert kind_of(np.zeros(1, np.float32)) is FP32
    assert kind_of(np.zeros(1, ">f4")) is FP32
    assert kind_of(np.array(["a"])) is BYTES
    with pytest.raises(TritonModelException, match="complex64"):
        kind_of(np.zeros(1, np.complex64))
