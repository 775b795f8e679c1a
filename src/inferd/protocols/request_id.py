"""Request ids: the client's own when it sends a sane one, else a cheap unique one."""

import itertools
import os

MAX_BYTES = 128
_PREFIX = os.urandom(6).hex().encode()
_numbers = itertools.count(1)
_ALLOWED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/+=@")


def request_id(sent: bytes | None) -> bytes:
    """The id to log and return; one that could break a header or a log line is replaced."""
    if sent and len(sent) <= MAX_BYTES and _ALLOWED.issuperset(sent):
        return sent
    return next_request_id()


def next_request_id() -> bytes:
    """An id that no other request has."""
    return b"%b-%x" % (_PREFIX, next(_numbers))
