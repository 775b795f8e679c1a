"""A job's requests and what has come of each: answers that `execute` returned, or that a sender
gives later, from any thread. It ends once, when every request has its last answer or is to come
again.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from inferd.errors import BackendError, InferdError
from inferd.types.tensor import Array
from inferd.workers.memory import Window, pack, pack_inline
from inferd.workers.messages import Done, Packed, Run
from inferd.workers.triton.error import TritonModelException, to_inferd
from inferd.workers.triton.inputs import JobInputs
from inferd.workers.triton.request import RELEASE_ALL, InferenceRequest
from inferd.workers.triton.response import InferenceResponse
from inferd.workers.triton.sender import InferenceResponseSender
from inferd.workers.triton.tensor import Tensor
from inferd.workers.triton.terms import Terms

Outputs = list[Array | None]

AGAIN: Final[Outputs] = []
"""What comes of a request that is to come once more."""

DROPPED: Final = (
    "the model let go of a request without an answer: it returned None for it and did not send "
    "TRITONSERVER_RESPONSE_COMPLETE_FINAL"
)


class Call:
    """A job whose requests have one answer each. `over` is told the end, `abandoned` that the model
    has let go of all that could bring it about."""

    __slots__ = (
        "__weakref__", "_abandoned", "_columns", "_inputs", "_left", "_lock", "_outcomes",
        "_over", "_parameters", "_unwanted", "run", "terms",
    )  # fmt: skip

    def __init__(
        self, terms: Terms, run: Run, arrays: list[Array | None],
        over: Callable[["Call"], None], abandoned: Callable[["Call"], None],
    ) -> None:  # fmt: skip
        self.terms = terms
        self.run = run
        self._inputs = JobInputs(terms, run, arrays)
        self._columns: list[list[Array]] | None = None
        self._over = over
        self._abandoned = abandoned
        self._left = len(run.rows)
        self._outcomes: list[Outputs | InferdError | None] = [None] * self._left
        self._unwanted: set[int] = set()
        self._parameters: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def __del__(self) -> None:
        if self._left:
            self._abandoned(self)

    def leave(self, index: int | None = None) -> None:
        """Nobody waits for a request any more, or for any."""
        self._unwanted.update(range(len(self.run.rows)) if index is None else (index,))

    def is_left(self, index: int) -> bool:
        """Whether nobody waits for a request any more."""
        return index in self._unwanted

    # -- what a request asks -----------------------------------------------------------------------

    def requests(self) -> list[InferenceRequest]:
        """A request for each, in order."""
        said = self.run.particulars
        received = InferenceRequest.received
        if not said:
            return [received(self, index, None) for index in range(len(self.run.rows))]
        return [received(self, index, said.get(index)) for index in range(len(self.run.rows))]

    @property
    def model_name(self) -> str:
        """The model's name."""
        return self.terms.name

    @property
    def model_version(self) -> int:
        """The model's version."""
        return self.terms.version

    @property
    def output_names(self) -> Sequence[str]:
        """All that there is to ask for."""
        return [*self.terms.places]

    def inputs_of(self, index: int) -> list[Tensor]:
        """The inputs of a request: views."""
        return self._inputs.of(index)

    def sender(self, index: int) -> InferenceResponseSender:
        """What answers a request."""
        return InferenceResponseSender(self, index)

    # -- answers -----------------------------------------------------------------------------------

    def send(self, index: int, response: InferenceResponse | None, final: bool) -> None:
        """One answer of a sender, or its end; raises TritonModelException."""
        with self._lock:
            if self._outcomes[index] is not None and response is not None:
                closed = "Response sender has been closed." if not self._left else (
                    "Non-decoupled model cannot send more than one response.")  # fmt: skip
                raise TritonModelException(f"Unable to send response. {closed}")
            if response is None:
                if self._outcomes[index] is None:
                    raise TritonModelException(
                        "Unable to send response. Non-decoupled model cannot send complete final "
                        "before sending a response."
                    )
                return
        self.answer(index, response)

    def answer_all(self, requests: Sequence[InferenceRequest], responses: Sequence[object]) -> bool:
        """Take what `execute` has returned, where it is what it nearly always is: every request's
        whole answer, and nothing beside. Otherwise nothing is taken."""
        terms, said = self.terms, self.run.particulars
        if not self._left == len(responses) == len(self.run.rows):
            return False  # some were answered by senders, or alone
        if terms.reshapes:
            return False
        if said and any(one.outputs is not None for one in said.values()):
            return False
        outputs, places = terms.outputs, terms.places
        columns: list[list[Array]] = [[] for _ in outputs]
        for request, response in zip(requests, responses, strict=True):
            if type(response) is not InferenceResponse or request._release != RELEASE_ALL:
                return False
            tensors = response._tensors
            if response._error or response._parameters or len(tensors) != len(outputs):
                return False
            for tensor in tensors:
                place = places.get(tensor._name)
                if place is None or tensor._kind is not outputs[place].kind:
                    return False
                columns[place].append(tensor._array)
        if any(len(column) != len(responses) for column in columns):
            return False
        self._columns, self._left = columns, 0
        self._over(self)
        return True

    def answer(self, index: int, response: InferenceResponse) -> None:
        """The answer of a request that has none."""
        outcome = self._outcome(index, response)
        if response.said and not isinstance(outcome, InferdError):
            self._parameters[index] = response.said
        self._settle(index, outcome)

    def fail(self, error: InferdError) -> None:
        """End every request that is left."""
        for index in range(len(self._outcomes)):
            self.fail_one(index, error)

    def fail_one(self, index: int, error: InferdError) -> None:
        """End a request, if it is left."""
        if self.is_open(index):
            self._settle(index, error)

    def repeat(self, index: int) -> None:
        """A request is to come again."""
        if not self.terms.iterative:
            self._settle(index, BackendError(
                "only a request of an iterative sequence can be rescheduled; say "
                "sequence_batching { iterative_sequence: true }"
            ))  # fmt: skip
            return
        self._settle(index, AGAIN)

    def is_open(self, index: int) -> bool:
        """Whether a request has no answer."""
        return self._outcomes[index] is None

    @property
    def _again(self) -> tuple[int, ...]:
        """The requests that are to come again."""
        return tuple(index for index, outcome in enumerate(self._outcomes) if outcome is AGAIN)

    def _settle(self, index: int, outcome: Outputs | InferdError) -> None:
        with self._lock:
            if self._outcomes[index] is not None:
                return
            self._outcomes[index] = outcome
            self._left -= 1
            if self._left:
                return
        self._over(self)

    def _outcome(self, index: int, response: InferenceResponse) -> Outputs | InferdError:
        """Outputs in the model's order; those that nobody asked for, or knows, are left out."""
        error = response.error()
        if error is not None:
            return to_inferd(error)
        terms = self.terms
        arrays: Outputs = [None] * len(terms.outputs)
        for tensor in response.output_tensors():
            place = terms.places.get(tensor._name)
            if place is None:
                continue
            try:
                arrays[place] = terms.outputs[place].array(tensor, terms.lead)
            except (TypeError, BackendError) as wrong:
                return BackendError(str(wrong))
        said = self.run.particulars.get(index)
        if said is not None and said.outputs is not None:
            for name, place in terms.places.items():
                if name not in said.outputs:
                    arrays[place] = None
        return arrays

    # -- the end -----------------------------------------------------------------------------------

    def done(self, window: Window) -> Done:
        """What is told of the end, large outputs in the window."""
        if self._columns is not None:
            return self._joined(window, self._columns, self.run.rows, {}, None)
        errors: dict[int, InferdError] = {}
        whole: list[Outputs] = []
        places = []
        for index, outcome in enumerate(self._outcomes):
            if isinstance(outcome, InferdError):
                errors[index] = outcome
            elif outcome is not None and outcome is not AGAIN:
                whole.append(outcome)
                places.append(index)
        parameters = None
        if self._parameters:
            parameters = {
                n: self._parameters[p] for n, p in enumerate(places) if p in self._parameters
            }
        if not whole:
            return Done(self.run.job, [], errors, [], reschedule=self._again)
        rows = [self.run.rows[place] for place in places]
        columns = list(zip(*whole, strict=True))
        return self._joined(window, columns, rows, errors, parameters)

    def _joined(
        self, window: Window, columns: Sequence[Sequence[Array | None]], rows: list[int],
        errors: dict[int, InferdError], parameters: dict[int, dict[str, Any]] | None,
    ) -> Done:  # fmt: skip
        """The end, with outputs in one array each where they fit."""
        job, again, terms = self.run.job, self._again, self.terms
        if parameters is None and all(_joins(c, rows, terms.batched) for c in columns):
            whole: Any = columns
            packed = pack([(o.kind, c) for o, c in zip(terms.outputs, whole, strict=True)], window)
            stacked = self.run.stacked and not terms.batched
            if stacked:
                packed = [_stacked(p, len(rows), c) for p, c in zip(packed, columns, strict=True)]
            return Done(job, packed, errors, stacked=stacked, reschedule=again)
        each = [pack_each(terms, arrays) for arrays in zip(*columns, strict=True)]
        return Done(job, [], errors, each, parameters=parameters, reschedule=again)


def pack_each(terms: Terms, arrays: Sequence[Array | None]) -> list[Packed | None]:
    """One request's outputs, with their message."""
    return [
        None if array is None else pack_inline(made.kind, array)
        for made, array in zip(terms.outputs, arrays, strict=True)
    ]


def _joins(column: Sequence[Array | None], rows: list[int], batched: bool) -> bool:
    """Whether an output of several requests can be one array."""
    first = column[0]
    if first is None or (len(column) > 1 and not first.ndim):
        return False
    if len(column) == 1:
        return True
    if not batched:
        return all(array is not None and array.shape == first.shape for array in column)
    tail = first.shape[1:]
    shapes = [array.shape for array in column if array is not None]
    return shapes == [(count, *tail) for count in rows]


def _stacked(packed: Packed, count: int, column: Sequence[Any]) -> Packed:
    return Packed(packed.datatype, (count, *column[0].shape), packed.data, packed.size)
