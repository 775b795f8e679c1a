"""Malformed: bytes that are not what their carrier says they are, as messages are when they cannot
be parsed. It refuses to know carriers."""

from typing import Any

from google.protobuf.message import DecodeError

from inferd.errors import InvalidRequest
from inferd.schemas.pb.messages import Message


class Malformed(InvalidRequest):
    """The bytes are no message, or not the one that was expected; the message says why."""


def parsed(kind: Any, data: bytes | bytearray | memoryview) -> Message:
    """A message from its bytes; raises Malformed."""
    try:
        return kind.FromString(bytes(data))
    except DecodeError as error:
        raise Malformed(f"the message is no {kind.DESCRIPTOR.full_name}: {error}") from error
