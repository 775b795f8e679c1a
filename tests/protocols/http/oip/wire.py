"""Bodies of inference requests, as clients write them."""

import json
import struct
from typing import Any

import numpy as np

from inferd.types.datatype import DATATYPES
from inferd.types.tensor import Array

JSON_VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False], "UINT8": [0, 255], "UINT16": [0, 65535], "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1], "INT8": [-128, 127], "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1], "INT64": [-(2**63), 2**63 - 1], "FP32": [-1.5, 3],
    "FP64": [1e-300, 1e300], "BYTES": ["", "é\u0000€"],
}  # fmt: skip
"""Two values of each datatype that JSON can carry, its extremes where it has them."""

BINARY_VALUES: dict[str, Array] = {
    **{
        name: np.array(values, DATATYPES[name].dtype)
        for name, values in JSON_VALUES.items()
        if name != "BYTES"
    },
    "FP16": np.array([1.5, -np.inf], np.float16),
    "BF16": np.array([0x3F80, 0xFF80], np.uint16),
    "BYTES": np.array([b"", b"\xff\x00x"], object),
}


def given(name: str, datatype: str, shape: list[int], data: Any = None, **more: Any) -> Any:
    """One input; parameters in `more`."""
    entry: dict[str, Any] = {"name": name, "shape": shape, "datatype": datatype}
    if data is not None:
        entry["data"] = data
    if more:
        entry["parameters"] = more
    return entry


def body(*inputs: Any, **fields: Any) -> bytes:
    """The JSON of a request."""
    return json.dumps({"inputs": list(inputs), **fields}).encode()


def packed(array: Array) -> bytes:
    """A tensor in binary, from the specification rather than from our code."""
    if array.dtype != object:
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    return b"".join(struct.pack("<I", len(value)) + value for value in array.ravel().tolist())


def same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tolist() == b.tolist()
