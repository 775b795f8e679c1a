"""Errors as a TritonPythonModel has them, and as the server does."""

from enum import IntEnum
from typing import ClassVar, Final

from inferd.errors import (
    BackendError,
    InferdError,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    Overloaded,
    RequestCancelled,
    RequestTimeout,
    Unsupported,
)


class TritonModelException(Exception):
    """What pb_utils raises, and a model may."""


class ErrorCode(IntEnum):
    """Triton's codes of errors."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7


class TritonError:
    """Why a request has no answer."""

    __slots__ = ("_code", "_message")

    UNKNOWN: ClassVar = ErrorCode.UNKNOWN
    INTERNAL: ClassVar = ErrorCode.INTERNAL
    NOT_FOUND: ClassVar = ErrorCode.NOT_FOUND
    INVALID_ARG: ClassVar = ErrorCode.INVALID_ARG
    UNAVAILABLE: ClassVar = ErrorCode.UNAVAILABLE
    UNSUPPORTED: ClassVar = ErrorCode.UNSUPPORTED
    ALREADY_EXISTS: ClassVar = ErrorCode.ALREADY_EXISTS
    CANCELLED: ClassVar = ErrorCode.CANCELLED

    def __init__(self, message: str, code: int = ErrorCode.INTERNAL) -> None:
        self._message = str(message)
        self._code = ErrorCode(code)

    def message(self) -> str:
        """What to tell."""
        return self._message

    def code(self) -> ErrorCode:
        """Which kind of error it is."""
        return self._code

    def __str__(self) -> str:
        return self._message

    def __repr__(self) -> str:
        return f"TritonError({self._message!r}, {self._code.name})"


_ERRORS: Final[dict[int, type[InferdError]]] = {
    ErrorCode.NOT_FOUND: ModelNotFound,
    ErrorCode.INVALID_ARG: InvalidRequest,
    ErrorCode.UNAVAILABLE: ModelUnavailable,
    ErrorCode.UNSUPPORTED: Unsupported,
    ErrorCode.ALREADY_EXISTS: InvalidRequest,
    ErrorCode.CANCELLED: RequestCancelled,
}
_CODES: Final[tuple[tuple[type[InferdError], ErrorCode], ...]] = (
    (InvalidRequest, ErrorCode.INVALID_ARG),
    (ModelNotFound, ErrorCode.NOT_FOUND),
    (ModelUnavailable, ErrorCode.UNAVAILABLE),
    (Overloaded, ErrorCode.UNAVAILABLE),
    (RequestTimeout, ErrorCode.UNAVAILABLE),
    (Unsupported, ErrorCode.UNSUPPORTED),
    (RequestCancelled, ErrorCode.CANCELLED),
)


def to_inferd(error: TritonError) -> InferdError:
    """What the server makes of a model's error."""
    return _ERRORS.get(error.code(), BackendError)(error.message())


def from_inferd(error: InferdError) -> TritonError:
    """What a model sees of an error of the server's, or of another model's."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), ErrorCode.INTERNAL)
    return TritonError(str(error), code)
