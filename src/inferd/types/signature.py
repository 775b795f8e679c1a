"""What a model takes and gives, as its caller sees it: named arguments, each a tensor on the wire
and something more natural in plain JSON. Every protocol that has names and no tensors goes by it.
"""

from typing import Any, Literal

import msgspec

from inferd.types.datatype import BYTES, DATATYPES
from inferd.types.tensor import TensorSpec

Form = Literal["tensor", "value", "bytes", "image", "json"]
"""How an argument is written in plain JSON, and lies in its tensor.

tensor  nested lists of numbers, booleans or texts
value   one number, boolean or text (a BYTES element, UTF-8)
bytes   base64 of a BYTES element
image   base64, or a data: URL, of a picture file, which is a BYTES element
json    any JSON value; its text is a BYTES element
"""


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """One argument, or one result.

    `shape` is that of one item, without a batch dimension, -1 is any size, None any shape at all;
    a form other than `tensor` has (). In its tensor, an item of a model that batches has a batch
    dimension before `shape`; without batching a tensor of shape () is sent as [1]. `schema` is the
    JSON schema of an item (2020-12, with its own $defs). `default` is the JSON text of what stands
    for an argument that is left out, None for one that is required; `null` of a form other than
    `json` has no tensor: the argument stays out.
    """

    name: str
    datatype: str
    form: Form
    shape: tuple[int, ...] | None = ()
    schema: dict[str, Any] = {}
    default: str | None = None
    description: str = ""


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments and results of a model, in the order of its tensors.

    `bare` says that the only result is the answer itself rather than a field of it; `streams` that
    an answer is a stream of results; `sessions` that the model keeps state for each session.
    With a `max_batch_size` of 1 or more its tensors have a batch dimension.
    """

    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    bare: bool = False
    streams: bool = False
    sessions: bool = False
    description: str = ""
    max_batch_size: int = 0


def signature_specs(arguments: tuple[Argument, ...], batched: bool) -> tuple[TensorSpec, ...]:
    """The tensors of arguments, with the batch dimension of a model that batches."""
    return tuple(
        TensorSpec(
            a.name, DATATYPES[a.datatype], _tensor_shape(a, batched), a.default is not None,
            any_shape=a.shape is None,
        )
        for a in arguments
    )  # fmt: skip


def _tensor_shape(argument: Argument, batched: bool) -> tuple[int, ...]:
    item = (-1,) if argument.shape is None else argument.shape
    return (-1, *item) if batched else item or (1,)


def tensor_signature(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], max_batch_size: int
) -> Signature:
    """That of a model of which only its tensors are known; shapes as in ModelDescription."""
    return Signature(
        inputs=tuple(_argument(spec, max_batch_size > 0) for spec in inputs),
        outputs=tuple(_argument(spec, max_batch_size > 0) for spec in outputs),
        max_batch_size=max_batch_size,
    )


def _argument(spec: TensorSpec, batched: bool) -> Argument:
    shape = spec.shape[1:] if batched else spec.shape
    schema: dict[str, Any] = {"type": _JSON_TYPES[spec.datatype.kind]}
    if spec.datatype is BYTES:
        schema = {"type": "string"}
    for size in reversed(shape):
        sized = {"minItems": size, "maxItems": size} if size >= 0 else {}
        schema = {"type": "array", "items": schema, **sized}
    form: Form = "value" if batched and not shape else "tensor"
    return Argument(
        name=spec.name, datatype=spec.datatype.name, form=form, shape=shape, schema=schema
    )


_JSON_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "bytes": "string"}
