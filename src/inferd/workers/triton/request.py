"""A request as a TritonPythonModel sees it, and one that it makes to ask another model.

What the server sent of it is looked at only when the model asks: a plain request costs little more
than its views.
"""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from enum import IntEnum
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from inferd.workers.messages import Particulars
from inferd.workers.triton.error import TritonModelException
from inferd.workers.triton.response import InferenceResponse, checked_parameters
from inferd.workers.triton.tensor import Tensor

if TYPE_CHECKING:
    from inferd.workers.triton.call import Call
    from inferd.workers.triton.sender import InferenceResponseSender
    from inferd.workers.triton.towards import Towards

SEQUENCE_START: Final = 1
SEQUENCE_END: Final = 2
RELEASE_ALL: Final = 1
RELEASE_RESCHEDULE: Final = 2

_PLAIN: Final = Particulars()


class MemoryType(IntEnum):
    """Where a model wants the answers of others to lie."""

    TRITONSERVER_MEMORY_GPU = 0
    TRITONSERVER_MEMORY_CPU = 1


class PreferredMemory:
    """Taken and not acted on: all memory is the processor's."""

    __slots__ = ("_device", "_memory")

    def __init__(
        self, preferred_memory_type: MemoryType = MemoryType.TRITONSERVER_MEMORY_CPU,
        preferred_device_id: int = 0,
    ) -> None:  # fmt: skip
        self._memory = preferred_memory_type
        self._device = preferred_device_id


class InferenceTrace:
    """A request's trace, to be handed on; the server traces what models ask by itself."""

    __slots__ = ()

    def get_context(self) -> str | None:
        """The OpenTelemetry context of a request that has one: none has yet."""
        return None


class InferenceRequest:
    """One request."""

    __slots__ = ("_call", "_index", "_inputs", "_model", "_release", "_said", "_version")

    _towards: ClassVar["Towards"]
    """What carries a model's questions to the server; set once in a worker."""

    def __init__(
        self, request_id: str = "", correlation_id: int | str = 0, inputs: Iterable[Tensor] = (),
        requested_output_names: Iterable[str] = (), model_name: str = "", model_version: int = -1,
        flags: int = 0, timeout: int = 0, preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace | None = None, parameters: Mapping[str, Any] | str | None = None,
        priority: int = 0,
    ) -> None:  # fmt: skip
        if not isinstance(correlation_id, int | str):
            raise TritonModelException("Correlation ID must be integer or string")
        said = json.loads(parameters) if isinstance(parameters, str) else parameters
        self._inputs: list[Tensor] | None = [*inputs]
        for tensor in self._inputs:
            if not isinstance(tensor, Tensor):
                raise TypeError(f"an input is a Tensor, not '{type(tensor).__name__}'")
        self._call: Call | None = None
        self._index = 0
        self._release = RELEASE_ALL
        self._model = model_name
        self._version = index(model_version)
        self._said = Particulars(
            request_id, tuple(requested_output_names) or None,
            checked_parameters(said) if said else None,
            int(correlation_id) if isinstance(correlation_id, bool) else correlation_id,
            index(flags), index(priority), index(timeout),
        )  # fmt: skip

    @classmethod
    def received(cls, call: "Call", index: int, said: Particulars | None) -> "InferenceRequest":
        """A request that the server has sent."""
        request = cls.__new__(cls)
        request._call = call
        request._index = index
        request._inputs = None
        request._release = RELEASE_ALL
        request._said = _PLAIN if said is None else said
        return request

    def inputs(self) -> list[Tensor]:
        """The inputs that it has; an optional one may be missing."""
        if self._inputs is None:
            assert self._call is not None
            self._inputs = self._call.inputs_of(self._index)
        return self._inputs

    def request_id(self) -> str:
        """The client's name for it, perhaps empty."""
        return self._said.id

    def correlation_id(self) -> int | str:
        """The sequence that it belongs to; 0 is none."""
        return self._said.sequence

    def requested_output_names(self) -> list[str]:
        """The outputs that are wanted."""
        said = self._said.outputs
        if said is not None or self._call is None:
            return [*(said or ())]
        return [*self._call.output_names]

    def model_name(self) -> str:
        """The model that it is for."""
        return self._call.model_name if self._call is not None else self._model

    def model_version(self) -> int:
        """The version that it is for; -1 is the newest."""
        return self._call.model_version if self._call is not None else self._version

    def parameters(self) -> str:
        """Its parameters as JSON."""
        return json.dumps(self._said.parameters) if self._said.parameters else "{}"

    def priority(self) -> int:
        """Its priority; 0 is the model's default."""
        return self._said.priority

    def timeout(self) -> int:
        """How long it may wait, in microseconds; 0 is any time."""
        return self._said.timeout_us

    def flags(self) -> int:
        """Whether it starts (1) or ends (2) a sequence."""
        return self._said.flags

    def set_flags(self, flags: int) -> None:
        """Say that it starts or ends a sequence."""
        said = self._said
        self._said = Particulars(
            said.id, said.outputs, said.parameters, said.sequence, flags, said.priority,
            said.timeout_us, said.depth,
        )  # fmt: skip

    def trace(self) -> InferenceTrace:
        """Its trace."""
        return InferenceTrace()

    def preferred_memory(self) -> PreferredMemory:
        """Where its answer should lie."""
        return PreferredMemory()

    def is_cancelled(self) -> bool:
        """Whether nobody waits for an answer any more."""
        return self._call is not None and self._call.is_left(self._index)

    def get_response_sender(self) -> "InferenceResponseSender":
        """What answers it, from any thread and at any time."""
        if self._call is None:
            raise TritonModelException("a request that a model has made has no response sender")
        return self._call.sender(self._index)

    def set_release_flags(self, flags: int) -> None:
        """Whether the request is done with (ALL), or is to come once more (RESCHEDULE)."""
        if flags not in (RELEASE_ALL, RELEASE_RESCHEDULE):
            raise TritonModelException(
                "Unable to set release flags. Must be one of TRITONSERVER_REQUEST_RELEASE_ALL and "
                "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE"
            )
        self._release = flags

    def exec(self, decoupled: bool = False) -> Any:
        """Ask the model and wait: an InferenceResponse, or with `decoupled` an iterator of them."""
        return self._towards.exec(self, decoupled)

    async def async_exec(self, decoupled: bool = False) -> Any:
        """As `exec`, leaving the event loop to others meanwhile."""
        return await self._towards.async_exec(self, decoupled)

    # What only inferd asks.

    @property
    def said(self) -> Particulars:
        """What it says beside its inputs."""
        return self._said

    @property
    def rescheduled(self) -> bool:
        """Whether it is to come once more."""
        return self._release == RELEASE_RESCHEDULE


class Answers(Iterator[InferenceResponse], Protocol):
    """Answers as they come, until nobody wants more."""

    def close(self) -> None:
        """Nobody does."""


class ResponseIterator:
    """The answers of a model that gives several, as they come; in a `for` or an `async for`."""

    def __init__(self, answers: "Answers") -> None:
        self._answers = answers

    def __iter__(self) -> Iterator[InferenceResponse]:
        return self

    def __next__(self) -> InferenceResponse:
        return next(self._answers)

    def __aiter__(self) -> AsyncIterator[InferenceResponse]:
        return self

    async def __anext__(self) -> InferenceResponse:
        import asyncio

        response = await asyncio.to_thread(next, self._answers, None)
        if response is None:
            raise StopAsyncIteration
        return response

    def cancel(self) -> None:
        """Want no more answers."""
        self._answers.close()
