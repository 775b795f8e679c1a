"""The key of a request: a SHA-256 of everything that can change its answer. Pure.

What does not change it stays out: the request's id, how long it may wait, how urgent it is.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from inferd.types.elements import texts_of
from inferd.types.inference import InferenceRequest
from inferd.types.tensor import Array, LeftOut, TensorSpec


def request_key(
    identity: bytes, request: InferenceRequest, inputs: Sequence[TensorSpec],
    arrays: Sequence[Array],
) -> bytes:  # fmt: skip
    """The key of a request, 32 bytes; `identity` says which model answers, as it is loaded now, and
    `arrays` are its `inputs`, in their order."""
    whole = hashlib.sha256()
    _add(whole, identity, request.method.encode(), request.session.encode())
    wanted = [output.name.encode() for output in request.outputs or ()]
    _add(whole, b"outputs", str(len(wanted)).encode(), *wanted)
    parameters = request.parameters or {}
    for name in sorted(parameters):
        value = parameters[name]  # 1, 1.0 and true are equal to Python and not to a model
        _add(whole, b"parameter", name.encode(), type(value).__name__.encode())
        _add(whole, repr(value).encode())
    for spec, array in zip(inputs, arrays, strict=True):
        kind = b"left out" if isinstance(array, LeftOut) else b"input"
        _add(whole, kind, spec.name.encode(), spec.datatype.name.encode())
        _add(whole, str(array.shape).encode())
        if array.dtype.hasobject:
            _add(whole, *texts_of(array))
        else:
            whole.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return whole.digest()


def _add(whole: "hashlib._Hash", *parts: bytes) -> None:
    """Each with its length before it, so that no two lists of parts read the same."""
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
