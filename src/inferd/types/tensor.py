"""A named tensor, and what a model says about one.

Values that are made for every request are msgspec structs: they are as plain as dataclasses and
cost a third to make.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from inferd.types.datatype import DataType

Array = np.ndarray[Any, np.dtype[Any]]


class LeftOut(np.ndarray[Any, np.dtype[Any]]):
    """What stands for an optional input that a request leaves out: an array without rows, told by
    its class from one that was sent without."""

    __array_priority__ = 1.0
    """Several of them, joined, are one of them, too."""


def left_out(spec: "TensorSpec") -> LeftOut:
    """What stands for an input, with its datatype and the sizes that are known behind the first."""
    shape = (0, *(max(0, size) for size in spec.shape[1:]))
    return np.empty(shape, spec.datatype.dtype).view(LeftOut)


class Elsewhere(np.ndarray[Any, np.dtype[Any]]):
    """What stands for an output that has been written to shared memory: an array that has its
    shape, and no elements of its own."""


def elsewhere(array: Array) -> Elsewhere:
    """What stands for an array."""
    return np.broadcast_to(np.empty((), array.dtype), array.shape).view(Elsewhere)


class Tensor(msgspec.Struct, eq=False):
    """A named array. BYTES arrays hold `bytes` objects, BF16 arrays are uint16 bit patterns."""

    name: str
    datatype: DataType
    array: Array


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model says about one input or output.

    `shape` includes the batch dimension where the model has one; -1 is any size. `labels` name the
    indices of the last dimension, for classification.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    optional: bool = False
    """Whether a request may leave it out."""
    labels: tuple[str, ...] = ()
    any_shape: bool = False
    """Whether any shape fits, behind the batch dimension if there is one; then `shape` says [-1]
    for it."""
