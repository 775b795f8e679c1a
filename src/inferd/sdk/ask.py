"""How a model reaches other models: what a server gives to a ModelRuntime."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Protocol

from inferd.types.signature import Signature
from inferd.types.tensor import Array

Arrays = Mapping[str, Array]
"""Tensors by the names of arguments or results. An argument that is left out is not in it."""


class Ask(Protocol):
    """Calls to served models. Every call goes through the queue of the model that is asked.

    Tensors are as that model's signature says, with a batch dimension where it batches. `method`
    is `predict` or `explain`; an empty `session` is none. All raise InferdError: ModelNotFound,
    ModelUnavailable, Overloaded, and what the model itself answers.
    """

    def signature(self, name: str, method: str = "predict") -> Signature:
        """That of a served model; cached, since it is asked before every call."""

    def call(self, name: str, inputs: Arrays, method: str, session: str) -> Arrays:
        """Run and wait."""

    async def acall(self, name: str, inputs: Arrays, method: str, session: str) -> Arrays:
        """Run, without holding up the event loop."""

    def stream(self, name: str, inputs: Arrays, session: str) -> Iterator[Arrays]:
        """The results one after another; closing the iterator early ends the work."""

    def astream(self, name: str, inputs: Arrays, session: str) -> AsyncIterator[Arrays]:
        """The results one after another."""
