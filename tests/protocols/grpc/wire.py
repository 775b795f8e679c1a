"""Messages as Triton's client writes and reads them."""

from collections.abc import Mapping, Sequence
from typing import Any

from tritonclient.grpc import service_pb2

from inferd.types.tensor import Array
from protocols.http.oip.wire import packed

CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents",
    "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Which field of `contents` is for which datatype, by the protocol's text."""


def parameter(value: Any) -> Any:
    """A value of Python's in the one kind that is its own."""
    if isinstance(value, service_pb2.InferParameter):
        return value
    kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    return service_pb2.InferParameter(**{kind[type(value)]: value})


def parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: parameter(value) for name, value in values.items()}


def message(model: str = "m", version: str = "2", **fields: Any) -> Any:
    """A request without inputs."""
    if "parameters" in fields:
        fields["parameters"] = parameters(fields["parameters"])
    return service_pb2.ModelInferRequest(model_name=model, model_version=version, **fields)


def add_raw(to: Any, name: str, datatype: str, array: Array, **more: Any) -> Any:
    """Another input, in raw contents."""
    add_input(to, name, datatype, array.shape, **more)
    to.raw_input_contents.append(packed(array))
    return to


def add_typed(
    to: Any, name: str, datatype: str, shape: Sequence[int], values: Sequence[Any], **more: Any
) -> Any:
    """Another input, in the contents of its datatype."""
    wire = add_input(to, name, datatype, shape, **more)
    wire.contents.SetInParent()
    getattr(wire.contents, CONTENTS[datatype]).extend(values)
    return to


def add_input(to: Any, name: str, datatype: str, shape: Sequence[int], **more: Any) -> Any:
    """Another input without its elements."""
    return to.inputs.add(name=name, datatype=datatype, shape=shape, parameters=parameters(more))


def add_output(to: Any, name: str, **more: Any) -> Any:
    """Another output that is asked for."""
    to.outputs.add(name=name, parameters=parameters(more))
    return to


def joined(encoded: Any) -> bytes:
    """One message of ours as the bytes that go out."""
    if isinstance(encoded, (bytes, list)):
        return b"".join(encoded) if isinstance(encoded, list) else encoded
    data: bytes = encoded.SerializeToString()
    return data
