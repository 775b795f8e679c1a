"""What has no types of its own is given on in the type that was described, or not at all."""

import numpy as np
import pytest

from inferd.backends.results import as_described
from inferd.errors import BackendError
from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array, TensorSpec

TEXT = np.array([b"5.0", b"None"], object)


@pytest.mark.parametrize(
    ("said", "found", "wanted"),
    [
        ("FP64", np.array([1, 2]), [1.0, 2.0]),
        ("FP64", np.array([1.5], np.float32), [1.5]),
        ("FP32", np.array([0.1]), [np.float32(0.1)]),
        ("INT64", np.array([True, False]), [1, 0]),
        ("INT64", np.array([-1], np.int32), [-1]),
        ("INT16", np.array([3], ">i2"), [3]),
        ("BYTES", TEXT, TEXT.tolist()),
    ],
)
def test_what_the_described_type_holds_is_given_in_it(
    said: str, found: Array, wanted: list[object]
) -> None:
    kind = DATATYPES[said]
    given = as_described(TensorSpec("y", kind, (-1,)), found)
    assert (given.dtype, given.tolist()) == (kind.dtype, wanted)


@pytest.mark.parametrize(
    ("said", "found", "told"),
    [
        ("INT64", np.array([0.5]), "returned float64 in 'y', which was INT64"),
        ("INT32", np.array([1 << 40]), "returned int64 in 'y', which was INT32"),
        ("FP64", TEXT, "returned text in 'y', which was FP64"),
        ("BYTES", np.array([0.5]), "returned float64 in 'y', which was BYTES"),
    ],
)
def test_another_type_is_told(said: str, found: Array, told: str) -> None:
    with pytest.raises(BackendError, match=told):
        as_described(TensorSpec("y", DATATYPES[said], (-1,)), found)
