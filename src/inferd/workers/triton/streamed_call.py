"""A job of a decoupled model: any number of answers to a request, which senders give from any
thread.
"""

from collections.abc import Callable

from inferd.errors import InferdError
from inferd.types.tensor import Array
from inferd.workers.jobs import cost_of
from inferd.workers.messages import Done, Part, Run
from inferd.workers.triton.call import Call, Outputs, pack_each
from inferd.workers.triton.error import TritonModelException
from inferd.workers.triton.flow import Flow
from inferd.workers.triton.response import InferenceResponse
from inferd.workers.triton.terms import Terms


class StreamedCall(Call):
    """A Call whose answers, and then its end, go out by its Flow."""

    __slots__ = ("_closed", "_flow")

    def __init__(
        self, terms: Terms, run: Run, arrays: list[Array | None],
        abandoned: Callable[["Call"], None], flow: Flow,
    ) -> None:  # fmt: skip
        super().__init__(terms, run, arrays, _nothing, abandoned)
        self._closed = [False] * len(run.rows)
        self._flow = flow

    def is_left(self, index: int) -> bool:
        """Whether nobody waits for a request's stream any more."""
        return self._flow.cancelled or super().is_left(index)

    def send(self, index: int, response: InferenceResponse | None, final: bool) -> None:
        """One answer, or the end; raises TritonModelException behind it."""
        part, cost = self._part(index, response, final) if response is not None else (None, 0)
        with self._lock:
            if self._closed[index]:
                raise TritonModelException(
                    "Unable to send response. Response sender has been closed."
                )
            self._closed[index] = final
            if part is not None:
                self._flow.put(part, cost)
        if final:
            self._settle(index, [])

    def is_open(self, index: int) -> bool:
        """Whether a request's stream has not ended."""
        return not self._closed[index] and super().is_open(index)

    def fail_one(self, index: int, error: InferdError) -> None:
        """End a stream, if it is open."""
        if self.is_open(index):
            self._closed[index] = True
            self._settle(index, error)

    def _settle(self, index: int, outcome: Outputs | InferdError) -> None:
        with self._lock:
            if self._outcomes[index] is not None:
                return
            self._outcomes[index] = outcome
            self._left -= 1
            if self._left:
                return
            errors = {i: o for i, o in enumerate(self._outcomes) if isinstance(o, InferdError)}
            self._flow.end(Done(self.run.job, [], errors, reschedule=self._again))

    def _part(self, index: int, response: InferenceResponse, final: bool) -> tuple[Part, int]:
        outcome = self._outcome(index, response)
        if isinstance(outcome, InferdError):
            return Part(self.run.job, [], None, outcome, final, index), 1
        packed = pack_each(self.terms, outcome)
        cost = cost_of([array for array in outcome if array is not None])
        return Part(self.run.job, packed, response.said, None, final, index), cost


def _nothing(call: Call) -> None:
    """The end of a stream goes out by its Flow."""
