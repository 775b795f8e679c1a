"""A job's inputs as its requests have them: views of what came together."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

from inferd.types.tensor import Array
from inferd.workers.messages import Run
from inferd.workers.triton.tensor import Tensor
from inferd.workers.triton.terms import Given, Terms


class JobInputs:
    """Cut when a request is looked at; None in `arrays` is an input that was left out."""

    __slots__ = ("_given", "_lead", "_run", "_starts")

    def __init__(self, terms: Terms, run: Run, arrays: Sequence[Array | None]) -> None:
        self._run = run
        self._lead = terms.lead
        self._starts: list[int] | None = None
        self._given: list[tuple[Given, Array | list[Array]]] = []
        for place, (given, array) in enumerate(zip(terms.inputs, arrays, strict=True)):
            if array is not None:
                shapes = run.shapes.get(place)
                self._given.append((given, array if shapes is None else _parts(array, shapes)))

    def of(self, index: int) -> list[Tensor]:
        """Those of the request at a place."""
        lead, rows = self._lead, self._run.rows
        if self._run.stacked:
            return [given.tensor(array[index], lead) for given, array in self._given]
        if len(rows) == 1:
            return [given.tensor(array, lead) for given, array in self._given]  # type: ignore[arg-type]
        if self._starts is None:
            self._starts = [0, *accumulate(rows)]
        start, end = self._starts[index], self._starts[index + 1]
        return [
            given.tensor(array[index] if isinstance(array, list) else array[start:end], lead)
            for given, array in self._given
        ]


def _parts(array: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Arrays whose elements lie behind one another."""
    ends = accumulate((math.prod(shape) for shape in shapes), initial=0)
    return [
        array[start:end].reshape(shape)
        for (start, end), shape in zip(pairwise(ends), shapes, strict=True)
    ]
