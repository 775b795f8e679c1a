import numpy as np
import pytest

from inferd.errors import InvalidRequest
from inferd.protocols.http.oip.raw_request import decode_raw
from inferd.types.datatype import BF16, BOOL, BYTES, FP32, INT16
from inferd.types.tensor import Array, TensorSpec


def raw(body: bytes, *specs: TensorSpec, batched: bool = False) -> Array:
    request, form = decode_raw("m", "2", body, specs, batched)
    assert (request.model_name, request.model_version) == ("m", "2")
    (tensor,) = request.inputs
    assert (tensor.name, tensor.datatype) == (specs[0].name, specs[0].datatype)
    assert form.is_binary("anything"), "outputs come back in binary"
    return tensor.array


def spec(*shape: int, datatype: object = FP32) -> TensorSpec:
    return TensorSpec("x", datatype, shape)  # type: ignore[arg-type]


FOUR = np.array([1, 2, 3, 4], np.float32)


@pytest.mark.parametrize(
    ("shape", "batched", "expected"),
    [
        ((4,), False, (4,)), ((2, 2), False, (2, 2)), ((-1,), False, (4,)),
        ((-1, 2), False, (2, 2)), ((2, -1), False, (2, 2)),
        ((-1, 4), True, (1, 4)), ((-1, -1), True, (1, 4)), ((-1, 2, -1), True, (1, 2, 2)),
        ((-1, 2, 2), True, (1, 2, 2)),
    ],
)  # fmt: skip
def test_shape_follows_from_the_size(
    shape: tuple[int, ...], batched: bool, expected: tuple[int, ...]
) -> None:
    found = raw(FOUR.tobytes(), spec(*shape), batched=batched)
    assert found.shape == expected
    assert found.ravel().tolist() == [1, 2, 3, 4]


def test_other_datatypes() -> None:
    assert raw(b"\x00\x02", spec(-1, datatype=BOOL)).tolist() == [False, True]
    assert raw(b"\xff\xff\x01\x00", spec(2, datatype=INT16)).tolist() == [-1, 1]
    assert raw(b"\x80\x3f", spec(1, datatype=BF16)).tolist() == [0x3F80]


@pytest.mark.parametrize(("shape", "batched"), [((1,), False), ((-1, 1), True), ((1, 1), False)])
def test_the_whole_body_is_one_string(shape: tuple[int, ...], batched: bool) -> None:
    found = raw(b"any \x00 bytes", spec(*shape, datatype=BYTES), batched=batched)
    assert found.shape == tuple(max(dim, 1) for dim in shape)
    assert found.ravel().tolist() == [b"any \x00 bytes"]
    assert raw(b"", spec(*shape, datatype=BYTES), batched=batched).ravel().tolist() == [b""]


@pytest.mark.parametrize(
    ("specs", "body", "message"),
    [
        ((), b"", "raw input must have exactly one input, but model 'm' has 0"),
        ((spec(1), spec(1)), b"", "exactly one input, but model 'm' has 2"),
        ((spec(-1, -1),), b"\x00" * 8, "can not be deduced because there are more than one"),
        ((spec(-1, 3),), b"\x00" * 16, "16 bytes are not a multiple of 12"),
        ((spec(-1, 0),), b"\x00" * 16, "can not be deduced"),
        ((spec(2),), b"\x00" * 7, "input byte size mismatch for raw input 'x'. Expected 8, got 7"),
        ((spec(2),), b"", "Expected 8, got 0"),
        ((spec(2, datatype=BYTES),), b"", "For BYTE datatype raw input 'x', the model must have"),
        ((spec(-1, datatype=BYTES),), b"", "model must have input shape [1]"),
    ],
)  # fmt: skip
def test_what_cannot_be_shaped_is_refused(
    specs: tuple[TensorSpec, ...], body: bytes, message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_raw("m", "", body, specs, False)
    assert message in str(caught.value)
