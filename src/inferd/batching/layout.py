"""How a batch is laid out for a model that does not take rows as its clients send them: tensors of
another shape (`reshape`), requests of different shapes behind one another (`allow_ragged_batch`),
inputs that are made of a batch's shapes (`batch_input`), outputs that are cut by them
(`batch_output`).

Pure numpy. It refuses to know configurations (`backends/shaping.py` makes a layout of one) and how
a batch is run.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import msgspec
import numpy as np

from inferd.errors import BackendError
from inferd.types.datatype import DATATYPES, DataType
from inferd.types.tensor import Array, LeftOut

Shape = tuple[int, ...]
Request = Sequence[Array]
"""The arrays of one request, in the order of the inputs that clients send."""


class InputLayout(msgspec.Struct, frozen=True):
    """An input. `dims` are what clients send, `own` what the model itself has where that differs;
    both leave the batch dimension out, and -1 is any size. The elements of all requests' `ragged`
    inputs stand behind one another, in one dimension."""

    dims: Shape = ()
    own: Shape | None = None
    ragged: bool = False

    def own_shape(self, array: Array, lead: int) -> Shape:
        """The shape that a request's array has for the model, `lead` dimensions of it the batch."""
        shape: Shape = array.shape
        if self.own is None:
            return shape
        return (*shape[:lead], *filled(self.own, self.dims, shape[lead:]))


class MadeInput(msgspec.Struct, frozen=True):
    """An input that clients do not send: made of the shapes that a batch's requests have for the
    input at place `source`, in Triton's words for how. `datatype` is INT32 or FP32."""

    kind: str
    datatype: str
    source: int

    @property
    def made_as(self) -> DataType:
        """Its datatype."""
        return DATATYPES[self.datatype]


class OutputLayout(msgspec.Struct, frozen=True):
    """An output; shapes as those of an InputLayout. With a `source` the model gives the elements of
    all requests behind one another, and a free dimension is as large as the same one of the input
    at that place."""

    name: str
    dims: Shape = ()
    own: Shape | None = None
    source: int | None = None

    def returned(self, array: Array, lead: int) -> Array:
        """An array of the model's in the shape that clients know, which it may have already, `lead`
        dimensions of it the batch; raises BackendError for one that fits neither."""
        if self.own is None:
            return array
        sizes = array.shape[lead:]
        if _fits(sizes, self.own):
            return array.reshape(*array.shape[:lead], *filled(self.dims, self.own, sizes))
        if _fits(sizes, self.dims):
            return array
        raise BackendError(
            f"the model returned shape {list(sizes)} in output '{self.name}' (without the batch), "
            f"which its reshape says is {list(self.own)}"
        )


class BatchLayout(msgspec.Struct, frozen=True):
    """What becomes of requests on the way to a model, and of its outputs on the way back.

    `inputs` and `outputs` are in the order in which clients know them; the model's own inputs are
    those, and `made` behind them.
    """

    batched: bool
    inputs: tuple[InputLayout, ...]
    made: tuple[MadeInput, ...]
    outputs: tuple[OutputLayout, ...]

    @property
    def by_rows(self) -> bool:
        """Whether it is the same to the model if rows come in one request or in several."""
        scattered = any(output.source is not None for output in self.outputs)
        return not self.made and not scattered and not any(i.ragged for i in self.inputs)

    @property
    def ragged(self) -> frozenset[int]:
        """Places of the inputs whose shapes may differ within a batch."""
        return frozenset(place for place, given in enumerate(self.inputs) if given.ragged)

    def columns(self, requests: Sequence[Request]) -> list[Sequence[Array]]:
        """Each of the model's inputs for requests that run together, as the parts that make it up
        along the first dimension; what was left out is one part."""
        given = list(zip(*requests, strict=True))
        lead = int(self.batched)
        columns: list[Sequence[Array]] = []
        for told, arrays in zip(self.inputs, given, strict=True):
            if isinstance(arrays[0], LeftOut):
                columns.append(arrays[:1])
            elif told.ragged:
                columns.append([array.ravel() for array in arrays])
            elif told.own is None:
                columns.append(arrays)
            else:
                columns.append([array.reshape(told.own_shape(array, lead)) for array in arrays])
        for made in self.made:
            source = self.inputs[made.source]
            shapes = [source.own_shape(array, lead) for array in given[made.source]]
            columns.append([MAKERS[made.kind](shapes, made.made_as.dtype)])
        return columns

    def merge(self, requests: Sequence[Request]) -> list[Array]:
        """Each of the model's inputs for requests that run together."""
        columns = self.columns(requests)
        return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in columns]

    def split(
        self, outputs: Sequence[Array], requests: Sequence[Request], rows: Sequence[int]
    ) -> list[list[Array]]:
        """The outputs of each request, which has so many `rows`: views of `outputs`.

        Raises BackendError for an output that is not as large as the batch says.
        """
        parts: list[list[Array]] = [[] for _ in requests]
        for told, output in zip(self.outputs, outputs, strict=True):
            cut = (
                self._by_rows(told, output, rows)
                if told.source is None
                else self._by_shapes(told, told.source, output, requests)
            )
            for part, array in zip(parts, cut, strict=True):
                part.append(array)
        return parts

    def _by_rows(self, told: OutputLayout, output: Array, rows: Sequence[int]) -> Iterator[Array]:
        if not self.batched:
            yield told.returned(output, 0)
            return
        whole = sum(rows)
        if output.shape[:1] != (whole,):
            raise BackendError(
                f"the model returned shape {list(output.shape)} in output '{told.name}' for a "
                f"batch of {whole} rows; where its elements are those of all requests behind one "
                "another, name it in batch_output"
            )
        start = 0
        for count in rows:
            yield told.returned(output[start : start + count], 1)
            start += count

    def _by_shapes(
        self, told: OutputLayout, source: int, output: Array, requests: Sequence[Request]
    ) -> Iterator[Array]:
        lead = int(self.batched)
        pattern = (-1,) * lead + (told.dims if told.own is None else told.own)
        given = self.inputs[source]
        shapes = []
        for request in requests:
            theirs = given.own_shape(request[source], lead)
            shapes.append(tuple(theirs[i] if dim < 0 else dim for i, dim in enumerate(pattern)))
        counts = [math.prod(shape) for shape in shapes]
        if output.size != sum(counts):
            raise BackendError(
                f"the model returned {output.size} elements in output '{told.name}', which "
                f"batch_output cuts by the shapes of its requests: {sum(counts)}"
            )
        flat = output.ravel()
        start = 0
        for shape, count in zip(shapes, counts, strict=True):
            yield told.returned(flat[start : start + count].reshape(shape), lead)
            start += count


def filled(wanted: Shape, known: Shape, sizes: Shape) -> Shape:
    """The shape `wanted`, whose free dimensions are those of `known`, in order, which are `sizes`
    now; as many of both are free."""
    free = iter([size for size, dim in zip(sizes, known, strict=True) if dim < 0])
    return tuple(next(free) if dim < 0 else dim for dim in wanted)


def _fits(sizes: Shape, dims: Shape) -> bool:
    return len(sizes) == len(dims) and all(
        dim in (-1, size) for dim, size in zip(dims, sizes, strict=True)
    )


# -- inputs that are made ----------------------------------------------------------------------

Maker = Callable[[Sequence[Shape], "np.dtype[np.generic]"], Array]
"""From the shapes of a batch's requests, the batch dimension first, to the input."""


def _counts(shapes: Sequence[Shape], dtype: "np.dtype[np.generic]") -> Array:
    return np.array([math.prod(shape) for shape in shapes], dtype)


def _ends(shapes: Sequence[Shape], dtype: "np.dtype[np.generic]") -> Array:
    return np.array([*accumulate(math.prod(shape) for shape in shapes)], dtype)


def _bounds(shapes: Sequence[Shape], dtype: "np.dtype[np.generic]") -> Array:
    return np.concatenate([np.zeros(1, dtype), _ends(shapes, dtype)])


def _largest(shapes: Sequence[Shape], dtype: "np.dtype[np.generic]") -> Array:
    """As many zeros as the largest request has elements: its shape is all that it says."""
    return np.zeros(max(math.prod(shape) for shape in shapes), dtype)


def _item_shapes(shapes: Sequence[Shape], dtype: "np.dtype[np.generic]") -> Array:
    """Of each row of each request its shape; [rows, dimensions]."""
    return np.array([shape[1:] for shape in shapes for _ in range(shape[0])], dtype)


def _flat_item_shapes(shapes: Sequence[Shape], dtype: "np.dtype[np.generic]") -> Array:
    return _item_shapes(shapes, dtype).ravel()


MAKERS: dict[str, Maker] = {
    "BATCH_ELEMENT_COUNT": _counts,
    "BATCH_ACCUMULATED_ELEMENT_COUNT": _ends,
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO": _bounds,
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE": _largest,
    "BATCH_ITEM_SHAPE": _item_shapes,
    "BATCH_ITEM_SHAPE_FLATTEN": _flat_item_shapes,
}
"""Every kind of `batch_input`, in the words of Triton's model_config.proto."""
