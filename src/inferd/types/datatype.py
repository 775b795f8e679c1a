"""The datatypes of the Open Inference Protocol, and how each one lies in numpy.

BF16 has no numpy type: it travels as the upper 16 bits of a float32 in a uint16 array, so a tensor
must carry its DataType and never be judged by its array's dtype alone. BYTES is an object array of
`bytes`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["bool", "int", "float", "bytes"]


@dataclass(frozen=True, slots=True, eq=False)
class DataType:
    """One datatype: its protocol name, numpy dtype and element size in bytes (0: variable)."""

    name: str
    dtype: "np.dtype[np.generic]"
    size_bytes: int
    kind: Kind

    @property
    def config_name(self) -> str:
        """The name in a Triton model configuration, for example `TYPE_FP32`."""
        return "TYPE_STRING" if self is BYTES else f"TYPE_{self.name}"


BOOL = DataType("BOOL", np.dtype(np.bool_), 1, "bool")
UINT8 = DataType("UINT8", np.dtype(np.uint8), 1, "int")
UINT16 = DataType("UINT16", np.dtype(np.uint16), 2, "int")
UINT32 = DataType("UINT32", np.dtype(np.uint32), 4, "int")
UINT64 = DataType("UINT64", np.dtype(np.uint64), 8, "int")
INT8 = DataType("INT8", np.dtype(np.int8), 1, "int")
INT16 = DataType("INT16", np.dtype(np.int16), 2, "int")
INT32 = DataType("INT32", np.dtype(np.int32), 4, "int")
INT64 = DataType("INT64", np.dtype(np.int64), 8, "int")
FP16 = DataType("FP16", np.dtype(np.float16), 2, "float")
BF16 = DataType("BF16", np.dtype(np.uint16), 2, "float")
FP32 = DataType("FP32", np.dtype(np.float32), 4, "float")
FP64 = DataType("FP64", np.dtype(np.float64), 8, "float")
BYTES = DataType("BYTES", np.dtype(np.object_), 0, "bytes")

DATATYPES: dict[str, DataType] = {
    t.name: t
    for t in (
        BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64,
        BYTES,
    )
}  # fmt: skip
"""Every datatype by its protocol name."""

CONFIG_DATATYPES: dict[str, DataType] = {t.config_name: t for t in DATATYPES.values()}
"""Every datatype by its name in a Triton model configuration."""
