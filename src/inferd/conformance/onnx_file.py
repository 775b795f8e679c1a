"""The two ONNX models of the repository, written without the package onnx. Pure.

Source: onnx.proto. A message is a list of fields, a field its number and bytes, text or a number.
"""

from collections.abc import Sequence

Field = tuple[int, "int | str | bytes"]

ELEMENT_TYPES = {
    "FP32": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7, "BYTES": 8,
    "BOOL": 9, "FP16": 10, "FP64": 11, "UINT32": 12, "UINT64": 13, "BF16": 16,
}  # fmt: skip
"""TensorProto.DataType by the protocol's names."""

IR_VERSION, OPSET = 8, 17


def identity(datatype: str, shape: Sequence[str | int]) -> bytes:
    """OUTPUT0 is INPUT0."""
    node = _message((1, "INPUT0"), (2, "OUTPUT0"), (4, "Identity"))
    return _model([node], [_value("INPUT0", datatype, shape)], [_value("OUTPUT0", datatype, shape)])


def add_sub(datatype: str, shape: Sequence[str | int]) -> bytes:
    """OUTPUT0 is INPUT0 + INPUT1, OUTPUT1 is INPUT0 - INPUT1."""
    nodes = [
        _message((1, "INPUT0"), (1, "INPUT1"), (2, f"OUTPUT{index}"), (4, kind))
        for index, kind in enumerate(("Add", "Sub"))
    ]
    inputs = [_value(f"INPUT{index}", datatype, shape) for index in range(2)]
    outputs = [_value(f"OUTPUT{index}", datatype, shape) for index in range(2)]
    return _model(nodes, inputs, outputs)


def _model(nodes: list[bytes], inputs: list[bytes], outputs: list[bytes]) -> bytes:
    graph = _message(
        *[(1, node) for node in nodes], (2, "graph"),
        *[(11, value) for value in inputs], *[(12, value) for value in outputs],
    )  # fmt: skip
    return _message((1, IR_VERSION), (7, graph), (8, _message((1, ""), (2, OPSET))))


def _value(name: str, datatype: str, shape: Sequence[str | int]) -> bytes:
    dimensions = [
        (1, _message((1, size) if isinstance(size, int) else (2, size))) for size in shape
    ]
    tensor = _message((1, ELEMENT_TYPES[datatype]), (2, _message(*dimensions)))
    return _message((1, name), (2, _message((1, tensor))))


def _message(*fields: Field) -> bytes:
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(_varint(number << 3) + _varint(value))
        else:
            data = value.encode() if isinstance(value, str) else value
            parts.append(_varint(number << 3 | 2) + _varint(len(data)) + data)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)
