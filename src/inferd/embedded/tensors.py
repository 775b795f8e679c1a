"""What a caller in Python has at hand, as tensors: arrays of numpy, whatever speaks DLPack, lists.

Pure. An array is used as it is wherever its elements are those of a datatype.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from inferd.errors import InvalidRequest
from inferd.types.datatype import BF16, BYTES, DATATYPES, UINT16, DataType, Kind
from inferd.types.tensor import Array, Tensor, TensorSpec

_OF_DTYPE: Final = {t.dtype: t for t in DATATYPES.values() if t not in (BF16, BYTES)}

_FROM: Final[dict[Kind, str]] = {"bool": "b", "int": "iu", "float": "iuf", "bytes": ""}
"""The kinds of numpy that numbers in lists may have for a datatype: none loses anything."""

Specs = Mapping[str, TensorSpec]


def tensors(inputs: Mapping[str, Any], specs: Specs) -> list[Tensor]:
    """The inputs of a request; None leaves one out. `specs` are what is known of the model: they
    say what a list of numbers is, and whether uint16 are BF16. Raises InvalidRequest."""
    return [tensor(name, value, specs.get(name)) for name, value in inputs.items()
            if value is not None]  # fmt: skip


def tensor(name: str, value: Any, spec: TensorSpec | None = None) -> Tensor:
    """One input; raises InvalidRequest that names it."""
    if isinstance(value, np.ndarray):
        array: Array = value
    elif hasattr(value, "__dlpack__"):
        if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # numpy has none
            value = value.view(sys.modules["torch"].uint16)
            return Tensor(name, BF16, _from_dlpack(name, value))
        array = _from_dlpack(name, value)
    else:
        array = _listed(name, value, spec)
    return _of_array(name, array, spec)


def _of_array(name: str, array: Array, spec: TensorSpec | None) -> Tensor:
    dtype = array.dtype
    datatype = _OF_DTYPE.get(dtype)
    if datatype is None:
        if dtype.kind in "OSU":
            return Tensor(name, BYTES, _texts(name, array))
        if dtype.name == "bfloat16":  # of ml_dtypes
            return Tensor(name, BF16, array.view(np.uint16))
        datatype = _OF_DTYPE.get(dtype.newbyteorder("="))
        if datatype is None:
            known = ", ".join(str(known) for known in _OF_DTYPE)
            raise InvalidRequest(
                f"input '{name}': no datatype has elements of {dtype}; convert it to one of "
                f"{known}, object (bytes or str)"
            )
        array = array.astype(dtype.newbyteorder("="))
    elif datatype is UINT16 and spec is not None and spec.datatype is BF16:
        datatype = BF16
    if not array.flags.aligned:
        array = array.copy()
    return Tensor(name, datatype, array)


def _from_dlpack(name: str, value: Any) -> Array:
    try:
        array: Array = np.from_dlpack(value)
    except Exception as error:  # whatever its library raises: on a GPU, with gradients, ...
        raise InvalidRequest(
            f"input '{name}': cannot be taken as it is, by DLPack: {error}; move it to the CPU "
            "(.cpu()), or detach it (.detach())"
        ) from error
    return array


def _texts(name: str, array: Array) -> Array:
    """An array of `bytes`, the same one where it is that."""
    elements = array.ravel().tolist()
    if array.dtype.kind == "O" and all(type(element) is bytes for element in elements):
        return array
    encoded: Array = np.empty(len(elements), dtype=object)
    for index, element in enumerate(elements):
        if isinstance(element, str):
            element = element.encode()
        elif not isinstance(element, bytes):
            raise InvalidRequest(
                f"input '{name}': element {index} is a {type(element).__name__}; expected str or "
                "bytes, or an array whose elements are all numbers"
            )
        encoded[index] = bytes(element)
    return encoded.reshape(array.shape)


def _listed(name: str, value: Any, spec: TensorSpec | None) -> Array:
    """Nested lists, or one value, as the model wants them where that is known."""
    wanted: DataType | None = spec.datatype if spec is not None else None
    try:
        if wanted is BYTES:
            return np.array(value, dtype=object)
        made: Array = np.asarray(value)
        if wanted is None or made.dtype == wanted.dtype or made.dtype.kind in "OSU":
            return made
        if wanted is BF16 or (made.size and made.dtype.kind not in _FROM[wanted.kind]):
            raise InvalidRequest(
                f"input '{name}': the model takes {wanted.name}, which {made.dtype} values in a "
                "list are not taken for; give an array"
            )
        return np.array(value, dtype=wanted.dtype)
    except (ValueError, OverflowError, TypeError) as error:
        raise InvalidRequest(f"input '{name}': is no tensor: {error}") from error
