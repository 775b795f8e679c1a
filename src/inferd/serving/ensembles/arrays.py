"""Arrays on their way from step to step: what a model takes of them, without a copy. Pure."""

from collections.abc import Sequence

import numpy as np

from inferd.serving.ensembles.graph import Step, fits
from inferd.types.tensor import Array, LeftOut, left_out


def fitted(array: Array, shape: Sequence[int]) -> Array:
    """The array with a batch dimension of 1 more or less, where that is what it takes."""
    if fits(array.shape, shape):
        return array
    if fits((1, *array.shape), shape):
        return array[np.newaxis]
    if array.shape[:1] == (1,) and fits(array.shape[1:], shape):
        first: Array = array[0]
        return first
    return array


class Stage:
    """A step of `run_now`, which has all arrays in its model's order; `becomes` are the tensors
    that the model's outputs are, if any."""

    __slots__ = ("_takes", "becomes", "index")

    def __init__(self, step: Step) -> None:
        given = {spec.name: tensor for spec, tensor in step.inputs}
        wanted = dict(step.outputs)
        self.index = step.index
        self.becomes = [wanted.get(spec.name) for spec in step.member.outputs]
        self._takes = [
            (spec, given.get(spec.name), spec.datatype.dtype, spec.shape[1:])
            for spec in step.member.inputs
        ]

    def inputs(self, tensors: dict[str, Array]) -> list[Array] | None:
        """The inputs of the step's model; None where one is not what it takes."""
        arrays: list[Array] = []
        for spec, tensor, dtype, tail in self._takes:
            if tensor is None:
                arrays.append(left_out(spec))
                continue
            array = tensors[tensor]
            if array.dtype != dtype or isinstance(array, LeftOut):
                return None
            if array.shape[1:] != tail and not (spec.any_shape or fits(array.shape, spec.shape)):
                return None
            arrays.append(array)
        return arrays
