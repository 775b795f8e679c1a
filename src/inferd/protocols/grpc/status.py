"""Status codes of gRPC, the one table from an error's code to one, and messages in trailers. Pure.

Sources: gRPC's "Status codes and their use" and "gRPC over HTTP2".
"""

import re
from enum import IntEnum

from inferd.errors import InferdError
from inferd.protocols.malformed import Malformed


class Status(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


NAMES = tuple(status.name for status in Status)
"""By number."""

STATUS_OF: dict[str, Status] = {
    "invalid_request": Status.INVALID_ARGUMENT,
    "payload_too_large": Status.RESOURCE_EXHAUSTED,
    "region_exists": Status.ALREADY_EXISTS,
    "model_not_found": Status.NOT_FOUND,
    "region_not_found": Status.NOT_FOUND,
    "model_unavailable": Status.UNAVAILABLE,
    "overloaded": Status.UNAVAILABLE,
    "timeout": Status.DEADLINE_EXCEEDED,
    "queue_timeout": Status.UNAVAILABLE,
    "cancelled": Status.CANCELLED,
    "unsupported": Status.UNIMPLEMENTED,
    "config": Status.INVALID_ARGUMENT,
    "backend": Status.INTERNAL,
    "engine_dead": Status.UNAVAILABLE,
    "internal": Status.INTERNAL,
}
"""A full queue is UNAVAILABLE, as Triton's is: clients try that again, since nothing was done.
RESOURCE_EXHAUSTED is what every implementation of gRPC says of a message over its limit. An engine
that died is being started again, so it is UNAVAILABLE, too; and so is a request that has waited for
too long, in Triton's words, where its call's own deadline is DEADLINE_EXCEEDED."""

MAX_MESSAGE = 4096
"""Bytes of a message in a trailer; clients refuse trailers of more than 8 KiB or so."""

_PLAIN = re.compile(r"(?! )[ -$&-~]*(?<! )")


def status_of(error: InferdError) -> Status:
    """The status that an error becomes; what is no message is INTERNAL to all of gRPC."""
    return Status.INTERNAL if isinstance(error, Malformed) else STATUS_OF[error.code]


def encode_message(text: str) -> bytes:
    """A value for `grpc-message`: what is not plain ASCII is percent-encoded, and so are spaces at
    its ends, which no field of HTTP may have. What is too long is cut between two characters."""
    if len(text) <= MAX_MESSAGE and _PLAIN.fullmatch(text):
        return text.encode()
    encoded: list[bytes] = []
    size = 0
    for index, character in enumerate(text):
        plain = " " <= character <= "~" and character != "%"
        if character == " " and index in (0, len(text) - 1):
            plain = False
        data = character.encode("utf-8", "replace")
        piece = data if plain else b"".join([b"%%%02X" % byte for byte in data])
        size += len(piece)
        if size > MAX_MESSAGE:
            break
        encoded.append(piece)
    cut = b"".join(encoded)
    return cut[:-1] + b"%20" if cut.endswith(b" ") else cut
