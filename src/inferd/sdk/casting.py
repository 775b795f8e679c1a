"""Which numbers may stand for which."""

import numpy as np

from inferd.sdk.mismatch import Mismatch
from inferd.types.datatype import DataType
from inferd.types.tensor import Array


def cast(array: Array, datatype: DataType) -> Array:
    """The array in the dtype of `datatype`, itself where that is its own.

    Numbers become wider or narrower numbers of their kind, and whole numbers become floats; a
    whole number that does not fit, and any other change, raises Mismatch.
    """
    dtype = datatype.dtype
    if array.dtype == dtype:
        return array
    came, wanted = array.dtype.kind, dtype.kind
    if wanted == "f" and came in "biuf":
        with np.errstate(over="ignore"):  # infinity says it
            return array.astype(dtype)
    if wanted in "iu" and came in "biu":
        _check_range(array, dtype)
        return array.astype(dtype)
    raise Mismatch(f"expected {dtype.name}, got {array.dtype.name}")


def _check_range(array: Array, dtype: "np.dtype[np.generic]") -> None:
    if array.dtype.kind == "b" or not array.size or np.can_cast(array.dtype, dtype, "safe"):
        return
    limits = np.iinfo(dtype)  # type: ignore[type-var]
    for value in (int(array.min()), int(array.max())):
        if not limits.min <= value <= limits.max:
            raise Mismatch(f"expected {dtype.name}, got {value}, which does not fit")
