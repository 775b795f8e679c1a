"""Raw binary requests: the whole body is the one input of the model. Pure.

Source: Triton's binary tensor data extension, "raw binary request" (header length 0).
"""

import numpy as np

from inferd.errors import InvalidRequest
from inferd.protocols.http.oip.request_codec import OutputForm
from inferd.protocols.oip.tensors import from_buffer
from inferd.types.datatype import BYTES
from inferd.types.inference import InferenceRequest
from inferd.types.tensor import Array, Tensor, TensorSpec


def decode_raw(
    name: str, version: str, body: bytes, inputs: tuple[TensorSpec, ...], batched: bool
) -> tuple[InferenceRequest, OutputForm]:
    """Shape the body as the model's only input; raises InvalidRequest when that is not clear."""
    if len(inputs) != 1:
        raise InvalidRequest(
            f"raw input must have exactly one input, but model '{name}' has {len(inputs)}; "
            "describe them in a JSON header"
        )
    spec = inputs[0]
    shape = [1, *spec.shape[1:]] if batched else list(spec.shape)
    if spec.datatype is BYTES:
        if [dim for dim in (shape[1:] if batched else shape) if dim != 1]:
            raise InvalidRequest(
                f"For BYTE datatype raw input '{spec.name}', the model must have input shape [1]"
            )
        array: Array = np.empty([1] * len(shape), dtype=object)
        array.fill(body)
    else:
        _fill_free_dimension(spec, shape, len(body))
        array = from_buffer(body, spec.datatype, shape, 0)
    tensor = Tensor(spec.name, spec.datatype, array)
    return InferenceRequest(name, version, [tensor]), OutputForm(binary_default=True)


def _fill_free_dimension(spec: TensorSpec, shape: list[int], size: int) -> None:
    """Put what the body's size allows into the one free dimension."""
    free = [i for i, dim in enumerate(shape) if dim < 0]
    if len(free) > 1:
        raise InvalidRequest(
            f"The shape of the raw input '{spec.name}' can not be deduced because there are more "
            f"than one variable-sized dimension"
        )
    known = 1
    for dim in shape:
        known *= dim if dim >= 0 else 1
    step = known * spec.datatype.size_bytes
    if free:
        if step == 0 or size % step:
            raise InvalidRequest(
                f"The shape of the raw input '{spec.name}' can not be deduced: {size} bytes are "
                f"not a multiple of {step}"
            )
        shape[free[0]] = size // step
    elif size != step:
        raise InvalidRequest(
            f"input byte size mismatch for raw input '{spec.name}'. Expected {step}, got {size}"
        )
