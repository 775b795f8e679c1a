"""Bounds of integers that index a table in a model. ONNX Runtime refuses a number beyond them,
where OpenVINO answers with zeros as if nothing were wrong: so they are found with the one and
looked after for the other.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inferd.backends.base import ModelInstance
from inferd.errors import InferdError, InvalidRequest
from inferd.types.tensor import Array, TensorSpec

BEYOND = 1 << 30
"""No table is that long."""

_RANGE = re.compile(r"must be within the inclusive range \[(-?\d+),\s*(-?\d+)\]")


@dataclass(frozen=True, slots=True)
class Bound:
    """What an input's numbers must lie within."""

    index: int
    name: str
    low: int
    high: int

    def check(self, inputs: Sequence[Array]) -> None:
        """Raises InvalidRequest for a number beyond."""
        array = inputs[self.index]
        if array.size and not (self.low <= array.min() and array.max() <= self.high):
            wrong = array[(array < self.low) | (array > self.high)].flat[0]
            raise InvalidRequest(
                f"input '{self.name}' has {wrong}, but its numbers must be within the inclusive "
                f"range [{self.low},{self.high}]"
            )


def find_bounds(
    run: Callable[[list[Array]], list[Array]], specs: Sequence[TensorSpec], row: list[Array]
) -> list[Bound] | None:
    """The bounds of a model that refuses what is beyond them, tried with one row that it takes;
    None where it refuses numbers without saying which would do."""
    bounds = []
    for index, spec in enumerate(specs):
        if spec.datatype.kind != "int" or spec.datatype.size_bytes < 4:
            continue
        tried = list(row)
        tried[index] = np.full_like(row[index], BEYOND)
        try:
            run(tried)
        except InferdError as error:
            found = _RANGE.search(str(error))
            if found is None:
                return None
            bounds.append(Bound(index, spec.name, int(found[1]), int(found[2])))
    return bounds


class BoundedInstance:
    """A ModelInstance whose numbers are looked at before it runs."""

    def __init__(self, instance: ModelInstance, bounds: Sequence[Bound]) -> None:
        self._instance = instance
        self._bounds = bounds

    def run(self, inputs: list[Array]) -> list[Array]:
        """See ModelInstance."""
        for bound in self._bounds:
            bound.check(inputs)
        return self._instance.run(inputs)

    def close(self) -> None:
        """See ModelInstance."""
        self._instance.close()
