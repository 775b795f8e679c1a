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


class Joined(msgspec.Struct, eq=False):
    """What came of a whole call: the outputs of all requests that did not fail, joined in their
    order, and by number why the others have none. Where all failed there are no arrays."""

    arrays: list[Array]
    failed: dict[int, InferdError]

    def split(self, rows: list[int]) -> list[Outcome]:
        """The outcome of each request, as views; `rows` as in the Call."""
        if len(rows) == 1 and not self.failed:
            return [self.arrays]
        outcomes: list[Outcome] = []
        start = 0
        for number, count in enumerate(rows):
            error = self.failed.get(number)
            if error is not None:
                outcomes.append(error)
                continue
            end = start + count
            outcomes.append([array[start:end] for array in self.arrays])
            start = end
        return outcomes
