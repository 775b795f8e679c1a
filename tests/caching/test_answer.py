import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.caching.answer import answered, decode, encode, kept
from inferd.types.datatype import BF16, BYTES, DATATYPES, FP32
from inferd.types.inference import InferenceResponse
from inferd.types.tensor import Tensor


def response(*tensors: Tensor, **more: object) -> InferenceResponse:
    return InferenceResponse("m", "1", list(tensors), "7", **more)  # type: ignore[arg-type]


def test_an_answer_comes_back_under_another_id() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    bits = np.array([1, 2], np.uint16)
    texts = np.array([b"a", b""], object)
    whole = response(
        Tensor("y", FP32, rows), Tensor("b", BF16, bits), Tensor("t", BYTES, texts),
        parameters={"p": 1, "q": "x"},
    )  # fmt: skip
    for answer in (kept(whole), decode(encode(kept(whole)))):
        again = answered(answer, "m", "1", "8")
        assert again.id == "8"
        assert again.parameters == {"p": 1, "q": "x"}
        for tensor, array in zip(again.outputs, (rows, bits, texts), strict=True):
            assert tensor.array.dtype == array.dtype
            assert np.array_equal(tensor.array, array)
        assert [tensor.datatype for tensor in again.outputs] == [FP32, BF16, BYTES]


def test_what_is_kept_is_nobodys_memory_and_cannot_be_written() -> None:
    rows, texts = np.zeros((1, 2), np.float32), np.array([b"a"], object)
    answer = kept(response(Tensor("y", FP32, rows), Tensor("t", BYTES, texts)))
    rows[:] = 5
    texts[:] = b"b"
    first = answered(answer, "m", "1", "")
    assert first.outputs[0].array.tolist() == [[0, 0]]
    assert first.outputs[1].array.tolist() == [b"a"]
    for tensor in first.outputs:
        with pytest.raises(ValueError, match="read-only"):
            tensor.array[:] = tensor.array
    with pytest.raises(ValueError, match="WRITEABLE"):
        first.outputs[0].array.flags.writeable = True
    first.outputs.clear()
    assert len(answered(answer, "m", "1", "").outputs) == 2


@given(st.sampled_from(sorted(DATATYPES)), st.lists(st.integers(0, 3), max_size=3))
def test_any_datatype_and_shape_is_kept(name: str, shape: list[int]) -> None:
    datatype = DATATYPES[name]
    array = np.full(shape, b"x" if datatype is BYTES else 1, datatype.dtype)
    again = answered(decode(encode(kept(response(Tensor("y", datatype, array))))), "m", "1", "")
    assert again.outputs[0].array.shape == array.shape
    assert np.array_equal(again.outputs[0].array, array)


def test_the_size_counts_all_bytes() -> None:
    small = kept(response(Tensor("y", FP32, np.zeros(1, np.float32))))
    large = kept(response(Tensor("y", FP32, np.zeros(1001, np.float32))))
    assert large.size - small.size == 4000
    assert kept(response(Tensor("y", BYTES, np.array([b"x" * 5000], object)))).size > 5000


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", encode(kept(response()))[:-1], b"\x80",
        b"\x92\x91\x95\xa1y\xa4FP99\x91\x01\xc4\x00\x90\xc0",
        b"\x92\x91\x95\xa1y\xa4FP32\x91\x02\xc4\x04\x00\x00\x00\x00\x90\xc0",
    ],
)  # fmt: skip
def test_anything_else_is_no_answer(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(data)
