"""The place of one argument or result: its name, its kind, and how a batch of it is written.

A tensor of a model that batches has a batch dimension before each item's shape; without batching
an item of shape () is sent as [1].
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from inferd.sdk.array_kind import ArrayKind
from inferd.sdk.choosing import kind_of, kind_of_argument, unwrap
from inferd.sdk.dtypes import is_array
from inferd.sdk.kinds import Kind
from inferd.sdk.mismatch import Mismatch
from inferd.types.signature import Argument, Signature
from inferd.types.tensor import Array

Layout = Literal["item", "list", "array"]
"""item: one value a call. list: a batch as a list of values. array: a batch as one array."""


class Slot:
    """One argument or result. All its methods raise Mismatch."""

    __slots__ = ("argument", "kind", "layout", "name")

    def __init__(self, argument: Argument, kind: Kind, layout: Layout) -> None:
        self.name = argument.name
        self.argument = argument
        self.kind = kind
        self.layout: Layout = layout

    @property
    def tensor_shape(self) -> tuple[int, ...] | None:
        """With the batch dimension; None where any shape will do."""
        shape = self.kind.shape
        if shape is None:
            return None
        return (-1, *shape) if self.layout != "item" else shape or (1,)

    def decode(self, array: Array) -> Any:
        """What the function gets for a whole tensor."""
        kind = self.kind
        if self.layout == "array":
            assert isinstance(kind, ArrayKind)  # by make_slot
            return kind.decode_array(array, batched=True)
        if array.dtype != kind.datatype.dtype:
            raise Mismatch(f"expected {kind.expects}, got a {array.dtype} tensor")
        if self.layout == "list":
            if not array.ndim:
                raise Mismatch(f"expected a batch of {kind.expects}, got one")
            if array.ndim > 1 and not isinstance(kind, ArrayKind):
                raise Mismatch(
                    f"expected {kind.expects}, got an array of shape {list(array.shape[1:])}"
                )
            return kind.decode_many(array)
        return self._decode_item(array)

    def encode(self, value: Any, rows: int) -> Array:
        """The tensor of what the function returned for `rows` items."""
        kind = self.kind
        if self.layout == "item":
            return self._encode_item(value)
        if self.layout == "list":
            items = check_list(value, rows, kind.expects)
            return kind.encode_many(items)
        assert isinstance(kind, ArrayKind)  # by make_slot
        array = kind.encode_array(value, batched=True)
        if not array.ndim or array.shape[0] != rows:
            raise Mismatch(f"expected a batch of {rows}, got shape {list(array.shape)}")
        return array

    def encode_one(self, value: Any) -> Array:
        """The tensor of one item, as a caller sends it."""
        return self._encode_item(value) if self.layout == "item" else self.kind.encode_many([value])

    def decode_one(self, array: Array) -> Any:
        """The item of a tensor that holds one."""
        if self.layout == "item":
            return self._decode_item(array)
        return self.kind.decode_many(array)[0]

    def _decode_item(self, array: Array) -> Any:
        kind = self.kind
        if isinstance(kind, ArrayKind):
            return kind.decode_array(array.reshape(()) if kind.shape == () else array, False)
        if array.shape != (1,):
            raise Mismatch(f"expected shape [1], got {list(array.shape)}")
        return kind.decode_many(array)[0]

    def _encode_item(self, value: Any) -> Array:
        kind = self.kind
        if isinstance(kind, ArrayKind):
            array = kind.encode_array(value, batched=False)
            return array.reshape((1,)) if kind.shape == () else array
        return kind.encode_many([value])


def check_list(value: Any, rows: int, expects: str) -> Sequence[Any]:
    """A batch of results that is a sequence of `rows` values."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or isinstance(value, dict):
        raise Mismatch(f"expected a list of {expects}, got {type(value).__name__}")
    if len(value) != rows:
        raise Mismatch(f"expected a list of {rows}, one for each item, got {len(value)}")
    return value if isinstance(value, (list, tuple)) else list(value)


def element_of(annotation: Any) -> Any:
    """T of `list[T]`, with what is said of the list; None for all else."""
    base, _ = unwrap(annotation)
    arguments = get_args(base)
    return arguments[0] if get_origin(base) is list and len(arguments) == 1 else None


def layout_of(annotation: Any, batched: bool) -> tuple[Layout, Any]:
    """How a value of that annotation is written, and the annotation of what its kind knows.

    Raises TypeError for a batch that is neither a list nor an array.
    """
    base, _ = unwrap(annotation)
    if not batched:
        return "item", annotation
    if is_array(base):
        return "array", annotation
    element = element_of(annotation)
    if element is None:
        name = getattr(base, "__name__", str(base))
        raise TypeError(
            f"a model with max_batch_size takes and gives batches: write list[{name}], or an "
            "array with a leading batch dimension"
        )
    return "list", element


def make_kind(annotation: Any, layout: Layout) -> Kind:
    """The kind of what `layout_of` gave."""
    return kind_of(annotation, batched=layout == "array")


def remote_slots(signature: Signature) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
    """Arguments and results of a model of which only its signature is known."""
    layout: Layout = "list" if signature.max_batch_size else "item"

    def slot(argument: Argument) -> Slot:
        return Slot(argument, kind_of_argument(argument), layout)

    return tuple(map(slot, signature.inputs)), tuple(map(slot, signature.outputs))
