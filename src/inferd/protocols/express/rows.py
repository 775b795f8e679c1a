"""Rows of numbers, from JSON to an array and back, many at once."""

import numpy as np
import orjson

from inferd.types.tensor import Array, TensorSpec


def merge_numbers(rows: list[object], spec: TensorSpec, flat: bool) -> Array:
    """Rows of numbers as JSON has them; in `flat` ones they stand in one list, whatever the shape.
    Raises ValueError, OverflowError."""
    merged = np.array(rows, spec.datatype.dtype)
    shape = len(rows), *spec.shape[1:]
    if flat:
        merged = merged.reshape(shape)
    if merged.shape != shape:
        raise ValueError
    return merged


def row_texts(output: Array) -> list[bytes]:
    """The numbers of each row as JSON has them between brackets, whatever the shape of a row."""
    flat = np.ascontiguousarray(output).reshape(len(output), -1)
    return orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].split(b"],[")
