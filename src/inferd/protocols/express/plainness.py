"""Which models' requests may be plain enough for the express lane."""

import math

from inferd.serving.served_model import ServedModel
from inferd.types.datatype import BF16, BYTES, FP16

MAX_ELEMENTS = 16 * 1024
"""Larger outputs cost more to encode than the lane saves."""

KINDS = ("float", "int")
"""Of datatypes whose values are plain numbers in JSON."""


def is_plain(served: ServedModel) -> bool:
    """Whether a model's requests can be plain ones: one small input of numbers, small outputs."""
    inputs, outputs = served.inputs, served.outputs
    return (
        served.description.max_batch_size > 0
        and (served.mergeable or served.mergeable_by_steps)
        and len(inputs) == 1
        and not inputs[0].any_shape
        and not served.signature.streams
        and all(spec.datatype.kind in KINDS for spec in inputs)
        and all(dim > 0 for dim in inputs[0].shape[1:])
        and not any(spec.datatype in (BYTES, FP16, BF16) for spec in (*inputs, *outputs))
        and all(spec.any_shape or _is_small(spec.shape[1:]) for spec in outputs)
    )


def _is_small(shape: tuple[int, ...]) -> bool:
    return min(shape, default=1) > 0 and math.prod(shape) <= MAX_ELEMENTS
