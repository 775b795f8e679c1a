"""What the express lane asks of a protocol: how its plainest requests are written and answered."""

from typing import Protocol, runtime_checkable

from inferd.errors import InferdError
from inferd.types.inference import InferenceResponse, SequenceStep
from inferd.types.tensor import Array

MAX_BODY_BYTES = 64 * 1024
"""Longer bodies cost more to decode than the lane saves."""


class Held(Protocol):
    """What a rider waits for."""

    def cancel(self) -> None:
        """One rider's client has left."""


class Rider(Protocol):
    """A request on its way through the lane."""

    @property
    def body(self) -> bytes:
        """The request."""

    @property
    def left(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def answer(self, body: bytes) -> None:
        """Send the answer that a RiderForm has written."""

    def wait(self, held: Held) -> None:
        """Wait; what is held is to be told when the client leaves."""

    def walk(self) -> None:
        """Take the ordinary path."""

    def settle(self, result: InferenceResponse | InferdError) -> None:
        """Send what the ordinary path has come to."""

    def fail(self) -> None:
        """Answer with an error: the lane itself has failed, and has logged why."""


class RiderForm(Protocol):
    """How a protocol writes the plainest requests for one model, and their answers."""

    def row(self, body: bytes) -> object:
        """The one row of a request; raises ValueError for any other request, of which the ordinary
        path will know what to say."""

    def merge(self, rows: list[object]) -> Array:
        """Rows as the model's input; raises ValueError, OverflowError where one does not fit."""

    def answers(self, outputs: list[Array]) -> list[bytes]:
        """An answer for each row of the outputs, as the ordinary path would write it."""


@runtime_checkable
class StepForm(RiderForm, Protocol):
    """How it writes them where they are of sequences."""

    def step(self, body: bytes) -> tuple[object, SequenceStep]:
        """The one row of a request, and its step, whose id says something; raises ValueError for
        any other."""


def walk(riders: list[Rider]) -> None:
    """Have requests take the ordinary path, each by itself."""
    for rider in riders:
        if not rider.left:
            rider.walk()


def answer_all(form: RiderForm, group: list[Rider], outputs: list[Array]) -> None:
    """Answer requests that have run together, a row each of the outputs."""
    for rider, body in zip(group, form.answers(outputs), strict=True):
        rider.answer(body)
