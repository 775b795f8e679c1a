"""Malformed: bytes that are not what their carrier says they are. It refuses to know carriers."""

from inferd.errors import InvalidRequest


class Malformed(InvalidRequest):
    """The bytes are no message, or not the one that was expected; the message says why."""
