"""The whole error tree. Codes are words; what number a code becomes is each protocol's own table.

    InferdError
    ├── InvalidRequest          the caller's input is wrong; the message names field and fix
    │   ├── PayloadTooLarge     the caller's input is over a size limit
    │   └── RegionExists        a region of shared memory has that name already
    ├── ModelNotFound           no such model, or no such version
    ├── RegionNotFound          no region of shared memory has that name
    ├── ModelUnavailable        the model exists and is not ready
    ├── Overloaded              refused at once, nothing was done; knows when to come back
    ├── RequestTimeout          the deadline passed before an answer
    │   └── QueueTimeout        it waited in the queue for longer than it may
    ├── RequestCancelled        the caller left
    ├── Unsupported             inferd, or this model, does not do that
    │   └── OnlyStreams         the model answers with a stream, which the call cannot carry
    ├── ConfigError             a configuration is wrong; knows file and field
    └── BackendError            the framework that runs the model failed
        └── EngineDead          a language model's engine ended; it is being started again

This module refuses to know any protocol: no HTTP or gRPC status numbers here.
"""

from typing import ClassVar


class InferdError(Exception):
    """Base of every error that inferd raises on purpose; `str(error)` is for the user."""

    code: ClassVar[str] = "internal"


class InvalidRequest(InferdError):
    """The caller's input is wrong; the message names the field and the fix."""

    code = "invalid_request"


class PayloadTooLarge(InvalidRequest):
    """The caller's input is over a size limit of the server."""

    code = "payload_too_large"


class RegionExists(InvalidRequest):
    """A region of shared memory is registered under that name already."""

    code = "region_exists"


class ModelNotFound(InferdError):
    """No model, or no version of it, has that name."""

    code = "model_not_found"


class RegionNotFound(InferdError):
    """No region of shared memory is registered under that name."""

    code = "region_not_found"


class ModelUnavailable(InferdError):
    """The model exists but no version that could answer is ready."""

    code = "model_unavailable"


class Overloaded(InferdError):
    """Refused at once because a queue is full or the server drains; nothing was done.

    `retry_after_s` is when a retry has a chance, in seconds.
    """

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RequestTimeout(InferdError):
    """The request's deadline passed before it was answered."""

    code = "timeout"


class QueueTimeout(RequestTimeout):
    """The request waited for longer than its queue's policy, or its own `timeout`, allows."""

    code = "queue_timeout"


class RequestCancelled(InferdError):
    """The caller left before the answer."""

    code = "cancelled"


class Unsupported(InferdError):
    """Known, understood, and not offered (by inferd or by this model)."""

    code = "unsupported"


class OnlyStreams(Unsupported):
    """The model answers with a stream of responses, which the call cannot carry."""


class ConfigError(InferdError):
    """A configuration is wrong. `file` and `field` say where; both may be empty."""

    code = "config"

    def __init__(self, message: str, *, file: str = "", field: str = "") -> None:
        where = ": ".join(part for part in (file, field) if part)
        super().__init__(f"{where}: {message}" if where else message)
        self.file = file
        self.field = field


class BackendError(InferdError):
    """The framework that runs the model raised, or returned what its metadata does not allow."""

    code = "backend"


class EngineDead(BackendError):
    """The engine that ran a language model ended before the answer."""

    code = "engine_dead"
