"""Faults: errors that are the model's or inferd's own, whatever the protocol. Their operator must
see them, so they are logged; what a client did wrong is only told to the client.
"""

import logging

from inferd.errors import InferdError

FAULTS = frozenset({"backend", "engine_dead", "internal"})
"""The codes of such errors."""


class Unforeseen(InferdError):
    """What a client is told of an exception that nobody foresaw; it has been logged."""


def log_fault(log: logging.Logger, error: InferdError, identity: bytes = b"") -> None:
    """Log an error where it is a fault."""
    if error.code in FAULTS and not isinstance(error, Unforeseen):
        log.error("call failed", extra={**_named(identity), "error": str(error)})


def internal_error(log: logging.Logger, error: Exception, identity: bytes = b"") -> InferdError:
    """Log an exception that nobody foresaw, and make of it what its client is told."""
    log.error("call failed", exc_info=error, extra=_named(identity))
    return Unforeseen(f"internal error: {type(error).__name__}")


def _named(identity: bytes) -> dict[str, str]:
    return {"request_id": identity.decode()} if identity else {}
