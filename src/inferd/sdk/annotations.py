"""What an author may say of an argument beyond its type, inside `Annotated`."""

from typing import Any

import msgspec


class Shape:
    """The shape of an array as the function sees it; None is any size.

    `Annotated[npt.NDArray[np.float32], Shape(None, 64)]`: in a model that batches the first
    dimension is the batch and must be None; without batching the array has two dimensions.
    """

    __slots__ = ("dims",)

    def __init__(self, *dims: int | None) -> None:
        for dim in dims:
            if dim is not None and (type(dim) is not int or dim < 0):
                raise TypeError(f"Shape{dims!r}: a dimension is a size from 0, or None for any")
        self.dims = tuple(-1 if dim is None else dim for dim in dims)

    def __repr__(self) -> str:
        return f"Shape({', '.join(str(None if dim < 0 else dim) for dim in self.dims)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and other.dims == self.dims

    def __hash__(self) -> int:
        return hash(self.dims)


def Field(
    *,
    description: str | None = None,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    multiple_of: float | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
    pattern: str | None = None,
    title: str | None = None,
    examples: list[Any] | None = None,
) -> msgspec.Meta:
    """What an argument means and which values it takes; it is msgspec's `Meta`.

    Bounds hold for numbers, lengths for texts, bytes and collections, `pattern` for texts.
    """
    meta: Any = msgspec.Meta  # its types allow one bound at a time
    made: msgspec.Meta = meta(
        description=description, ge=ge, gt=gt, le=le, lt=lt, multiple_of=multiple_of,
        min_length=min_length, max_length=max_length, pattern=pattern, title=title,
        examples=examples,
    )  # fmt: skip
    return made
