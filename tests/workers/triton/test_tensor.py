import gc
import weakref
from typing import Any

import numpy as np
import pytest

from inferd.types.datatype import BF16, FP32
from inferd.workers.triton.error import TritonModelException
from inferd.workers.triton.tensor import Tensor


def test_what_a_tensor_says() -> None:
    tensor = Tensor("a", np.zeros((2, 3), np.float32))
    assert (tensor.name(), tensor.shape(), tensor.triton_dtype()) == ("a", [2, 3], 11)
    assert tensor.dtype() is np.float32
    assert tensor.is_cpu()
    assert tensor.__dlpack_device__() == (1, 0)


def test_only_arrays() -> None:
    wrong: Any = [1, 2]
    with pytest.raises(TypeError, match=r"not 'list'.*from_dlpack"):
        Tensor("a", wrong)


def test_dlpack_views() -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    seen = np.from_dlpack(Tensor("a", array))
    array[0, 0] = 9
    assert seen[0, 0] == 9
    turned = Tensor.from_dlpack("b", array.T)
    assert np.shares_memory(turned.as_numpy(), array)
    assert turned.as_numpy().tolist() == array.T.tolist()


def test_a_capsule_is_taken_once_and_let_go_of() -> None:
    class Kept(np.ndarray):
        """An array that may be watched."""

    array = np.arange(4, dtype=np.float32).view(Kept)
    gone = weakref.ref(array)
    capsule = Tensor("a", array).to_dlpack()
    taken = Tensor.from_dlpack("b", capsule)
    with pytest.raises(TritonModelException, match="not used yet"):
        Tensor.from_dlpack("c", capsule)
    del array
    assert taken.as_numpy().tolist() == [0, 1, 2, 3]
    del taken, capsule
    gc.collect()
    assert gone() is None


def test_sizes_of_nothing_and_types_that_numpy_has_not() -> None:
    assert Tensor.from_dlpack("a", np.zeros((0, 3), np.float32)).shape() == [0, 3]
    half = Tensor.of("a", BF16, np.array([0x3F80, 0x4000], np.uint16))
    with pytest.raises(TritonModelException, match="BF16"):
        half.as_numpy()
    again = Tensor.from_dlpack("b", half)
    assert again.kind is BF16
    assert again.array.tolist() == [0x3F80, 0x4000]
    assert Tensor.from_dlpack("b", np.zeros(2, np.float32)).kind is FP32


def test_bfloat16_of_torch() -> None:
    torch = pytest.importorskip("torch")
    given = torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    assert Tensor.from_dlpack("a", given).array.tolist() == [0x3F80, 0x4000]
    back = torch.from_dlpack(Tensor.of("a", BF16, np.array([0x3F80], np.uint16)))
    assert back.dtype is torch.bfloat16
    assert back.tolist() == [1.0]


@pytest.mark.parametrize("value", [3, np.zeros(1, np.complex64)], ids=["no tensor", "complex"])
def test_what_is_no_tensor(value: Any) -> None:
    with pytest.raises(TritonModelException, match="not supported"):
        Tensor.from_dlpack("a", value)


def test_texts_have_no_dlpack() -> None:
    with pytest.raises(TritonModelException, match="TYPE_BYTES"):
        Tensor("a", np.array([b"x"], object)).to_dlpack()


def test_what_has_another_byte_order_is_turned() -> None:
    tensor = Tensor("x", np.array([1, 258], ">i4"))
    assert tensor.as_numpy().tobytes() == np.array([1, 258], np.int32).tobytes()
