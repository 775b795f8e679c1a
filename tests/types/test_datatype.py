import numpy as np
import pytest

from inferd.types.datatype import BF16, BYTES, CONFIG_DATATYPES, DATATYPES, FP32, UINT16, DataType

SIZES = {
    "BOOL": 1, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8, "INT8": 1, "INT16": 2,
    "INT32": 4, "INT64": 8, "FP16": 2, "FP32": 4, "FP64": 8, "BYTES": 0, "BF16": 2,
}  # fmt: skip


def test_there_are_the_protocols_datatypes_with_their_sizes() -> None:
    assert {name: t.size_bytes for name, t in DATATYPES.items()} == SIZES


@pytest.mark.parametrize("datatype", DATATYPES.values(), ids=lambda t: t.name)
def test_size_is_that_of_the_array_that_holds_it(datatype: DataType) -> None:
    if datatype is BYTES:
        assert datatype.dtype == np.dtype(object)
    else:
        assert datatype.dtype.itemsize == datatype.size_bytes
        assert datatype.dtype.newbyteorder("<") == datatype.dtype, "little-endian, as on the wire"


def test_names_in_a_configuration_are_tritons() -> None:
    expected = {f"TYPE_{name}" for name in SIZES if name != "BYTES"} | {"TYPE_STRING"}
    assert set(CONFIG_DATATYPES) == expected
    assert CONFIG_DATATYPES["TYPE_STRING"] is BYTES
    assert CONFIG_DATATYPES["TYPE_FP32"] is FP32


def test_bf16_is_told_from_uint16_though_both_lie_in_the_same_array() -> None:
    assert BF16.dtype == UINT16.dtype
    assert BF16 != UINT16
    assert (BF16.kind, UINT16.kind) == ("float", "int")
