"""A Method: one call that a service offers. It refuses to know services, and what carries calls."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal["unary", "server_stream", "bidi"]
"""`unary` has one request and one answer, `server_stream` one request, `bidi` any number."""

Buffer = bytes | bytearray | memoryview
Answer = Any
"""A message, or one that is encoded: bytes, or a list of bytes and memoryviews to be joined."""

Requests = AsyncIterator[Buffer]


class CallContext(Protocol):
    """What a handler is told of a call, and may say beside its answers."""

    metadata: dict[bytes, bytes]
    deadline_ns: int
    """On `time.perf_counter_ns`; 0 is none."""

    def set_trailing(self, name: bytes, value: bytes) -> None:
        """Put a field into the trailers."""


UnaryHandler = Callable[[Any, CallContext], Awaitable[Answer]]
"""Answers a message of the method's class, or bytes where the method has none."""

StreamHandler = Callable[[Requests, CallContext], AsyncIterator[Answer]]
"""Answers requests as they come; an asynchronous generator, closed when the client has left."""


@dataclass(frozen=True, slots=True)
class Method:
    """One call: its path, `/package.Service/Name`, and who answers it.

    Errors are raised as InferdError. Requests of streams come as bytes, so `request` is the class
    of a unary call's only.
    """

    path: str
    kind: Kind
    handler: UnaryHandler | StreamHandler
    request: Any | None = None
