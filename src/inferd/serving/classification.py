"""Triton's classification extension: the top K of an output as text.

Pure. Source: Triton's `extension_classification.md`.
"""

import numpy as np

from inferd.errors import InvalidRequest
from inferd.types.datatype import BF16, BYTES
from inferd.types.tensor import Array, Tensor, TensorSpec

MAX_ELEMENTS = 1_000_000
"""Most elements that a classification may return."""


def check_classification(spec: TensorSpec, count: int) -> None:
    """Refuse what cannot be classified; raises InvalidRequest."""
    if spec.datatype is BYTES:
        raise InvalidRequest(
            f"class result not available for output due to unsupported type "
            f"'{spec.datatype.name}': '{spec.name}'"
        )
    if count < 1:
        raise InvalidRequest(f"classification of output '{spec.name}' must be at least 1")


def classify(tensor: Tensor, count: int, labels: tuple[str, ...], batched: bool) -> Tensor:
    """The `count` largest of each row as BYTES `[batch, count]`: `value:index[:label]`.

    Without a batch dimension the whole tensor is one row and the shape `[count]`.
    """
    array = _as_float(tensor) if tensor.datatype is BF16 else tensor.array
    rows = array.shape[0] if batched and array.ndim else 1
    flat = array.reshape(rows, -1) if array.size else array.reshape(rows, 0)
    count = min(count, flat.shape[1])
    if rows * count > MAX_ELEMENTS:
        raise InvalidRequest(
            f"classification of output '{tensor.name}' would return {rows * count} elements, "
            f"at most {MAX_ELEMENTS} are allowed"
        )
    order = _descending(flat)[:, :count]
    result: Array = np.empty((rows, count), dtype=object)
    for row in range(rows):
        for column, index in enumerate(order[row].tolist()):
            text = f"{float(flat[row, index]):.6f}:{index}"
            if index < len(labels):
                text = f"{text}:{labels[index]}"
            result[row, column] = text.encode()
    return Tensor(tensor.name, BYTES, result if batched else result.reshape(count))


def _descending(rows: Array) -> Array:
    """Indices by value, largest first; of equals the first comes first, and NaN comes last."""
    if rows.dtype.kind == "f":
        falling: Array = np.argsort(-rows, axis=1, kind="stable")
        return falling
    order: Array = np.argsort(rows[:, ::-1], axis=1, kind="stable")[:, ::-1]
    first: Array = rows.shape[1] - 1 - order
    return first


def _as_float(tensor: Tensor) -> Array:
    return (tensor.array.astype(np.uint32) << 16).view(np.float32)
