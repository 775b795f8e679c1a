"""What a model is asked to run, and what comes of it."""

import msgspec

from inferd.errors import InferdError
from inferd.types.tensor import Array


class Call(msgspec.Struct, eq=False):
    """One batch of requests. `arrays` are the tensors of all requests joined, in the order of the
    signature's inputs, None for one that all leave out. `rows` is how many items each request has
    (a model without batching gets one request, of one), `sessions` the session of each, or empty.

    Arrays may be read-only views into memory that is used again after the call.
    """

    method: str
    arrays: list[Array | None]
    rows: list[int]
    sessions: list[str] = []


Outcome = list[Array] | InferdError
"""Of one request: its outputs, in the order of the signature's, or why there are none."""
