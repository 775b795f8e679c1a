"""What answers a request outside of `execute`: any number of times where the model is decoupled."""

from typing import TYPE_CHECKING, Final

from inferd.workers.triton.error import TritonModelException
from inferd.workers.triton.response import InferenceResponse

if TYPE_CHECKING:
    from inferd.workers.triton.call import Call

COMPLETE_FINAL: Final = 1


class InferenceResponseSender:
    """May be used from any thread."""

    __slots__ = ("_call", "_index")

    def __init__(self, call: "Call", index: int) -> None:
        self._call = call
        self._index = index

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send an answer, or with TRITONSERVER_RESPONSE_COMPLETE_FINAL the last or none; raises
        TritonModelException behind the last. It does not wait for the client to read."""
        if response is not None and not isinstance(response, InferenceResponse):
            raise TypeError(f"an InferenceResponse is sent, not '{type(response).__name__}'")
        if flags not in (0, COMPLETE_FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and not flags:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        self._call.send(self._index, response, flags == COMPLETE_FINAL)

    def is_cancelled(self) -> bool:
        """Whether nobody waits for an answer any more."""
        return self._call.is_left(self._index)
