"""A whole HTTP request, as the connection hands it on."""

import msgspec

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, values as received."""


class RequestHead(msgspec.Struct, eq=False, frozen=True):
    """Everything of a request but its body; `target` is the path with its query, as sent."""

    method: bytes
    target: bytes
    headers: Headers
    fields: dict[bytes, bytes]
    """The headers by name; of a repeated one, the last."""
    keep_alive: bool
    body_bytes: int


class HttpRequest(msgspec.Struct, eq=False):
    """A whole request; `start_s` is when it began to be answered, where an access log wants it."""

    head: RequestHead
    body: bytes
    start_s: float = 0.0
