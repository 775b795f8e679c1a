"""Tensors of torch and arrays of numpy, one made of the other; what a program returns, in a row."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from inferd.errors import BackendError, Unsupported
from inferd.types.datatype import BF16, DATATYPES, DataType
from inferd.types.tensor import Array

DTYPES: dict[torch.dtype, DataType] = {
    torch.bool: DATATYPES["BOOL"], torch.uint8: DATATYPES["UINT8"],
    torch.uint16: DATATYPES["UINT16"], torch.uint32: DATATYPES["UINT32"],
    torch.uint64: DATATYPES["UINT64"], torch.int8: DATATYPES["INT8"],
    torch.int16: DATATYPES["INT16"], torch.int32: DATATYPES["INT32"],
    torch.int64: DATATYPES["INT64"], torch.float16: DATATYPES["FP16"], torch.bfloat16: BF16,
    torch.float32: DATATYPES["FP32"], torch.float64: DATATYPES["FP64"],
}  # fmt: skip


def datatype_of(name: str, dtype: torch.dtype) -> DataType:
    """The protocol's datatype; raises Unsupported naming the tensor."""
    found = DTYPES.get(dtype)
    if found is None:
        raise Unsupported(f"tensor '{name}' has dtype {dtype}, which has no datatype in the Open "
                          "Inference Protocol")  # fmt: skip
    return found


def to_tensor(array: Array, datatype: DataType, own: bool) -> torch.Tensor:
    """A tensor over the array's memory, or over a copy where torch cannot have that, or where it
    must have its own."""
    if own or not (array.flags.writeable and array.flags.c_contiguous):
        array = array.copy()
    if datatype is BF16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_array(tensor: torch.Tensor, kept: frozenset[int]) -> Array:
    """An array that nothing else writes to: a copy where the tensor lies in `kept`, addresses of
    storages that outlive the run."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if tensor.untyped_storage().data_ptr() in kept:
        tensor = tensor.clone()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def flat(result: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in what a program returned, in order, with their names; '' for one that has none.

    Names are keys of dictionaries and fields of named tuples. Raises BackendError.
    """
    if isinstance(result, torch.Tensor):
        yield name, result
    elif isinstance(result, bool | int | float):
        yield name, torch.tensor(result)
    elif isinstance(result, dict):
        for key, value in result.items():
            yield from flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(result, tuple | list):
        fields = getattr(result, "_fields", [""] * len(result))
        for field, value in zip(fields, result, strict=True):
            yield from flat(value, field or name)
    else:
        raise BackendError(f"the model returned a {type(result).__name__}, which is no tensor")
