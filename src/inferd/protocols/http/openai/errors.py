"""The table from an error's code to a status of the OpenAI API, and the body its clients read.

Types and codes are OpenAI's where it has one. Pure.
"""

import orjson

from inferd.errors import InferdError, InvalidRequest
from inferd.protocols.http.errors import error_headers
from inferd.protocols.http.request import Headers

STATUS_OF: dict[str, int] = {
    "invalid_request": 400,
    "payload_too_large": 413,
    "region_exists": 400,
    "model_not_found": 404,
    "region_not_found": 404,
    "model_unavailable": 503,
    "overloaded": 429,
    "timeout": 504,
    "queue_timeout": 504,
    "cancelled": 499,
    "unsupported": 400,
    "config": 400,
    "backend": 500,
    "engine_dead": 503,
    "internal": 500,
}

_TYPES = {429: "rate_limit_error", 499: "cancelled", 503: "service_unavailable"}
_CODES = {
    "model_not_found": "model_not_found",
    "overloaded": "rate_limit_exceeded",
    "model_unavailable": "model_unavailable",
    "engine_dead": "engine_dead",
    "unsupported": "unsupported",
}
_TOO_LONG = "maximum context length is"
"""In every message about a prompt that is too long; clients look for these words."""

RETRY_AFTER_S = b"2"
"""When to come back to a model that is being loaded or started again."""


class UnsupportedMediaType(InvalidRequest):
    """The body is of a kind that is not read."""


class FieldError(InvalidRequest):
    """A field of the body is wrong; `param` is its name."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


def status_of(error: InferdError) -> int:
    """The status to answer with."""
    return 415 if isinstance(error, UnsupportedMediaType) else STATUS_OF[error.code]


def error_object(error: InferdError) -> dict[str, str | None]:
    """What stands under `error` in an answer, and in a stream."""
    message = str(error).encode("utf-8", "replace").decode()
    status = status_of(error)
    code = _CODES.get(error.code)
    if status == 400 and _TOO_LONG in message:
        code = "context_length_exceeded"
    return {
        "message": message,
        "type": _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
        "param": getattr(error, "param", None) or _param(error, message),
        "code": code,
    }


def openai_error_body(error: InferdError) -> bytes:
    """The body of an answer that is an error."""
    return orjson.dumps({"error": error_object(error)})


def openai_error_headers(error: InferdError) -> Headers:
    """Headers that an error adds: when to come back."""
    if status_of(error) == 503:
        return [(b"retry-after", RETRY_AFTER_S)]
    return error_headers(error)


def _param(error: InferdError, message: str) -> str | None:
    """The field that a message begins with; those of the engine's checks all do."""
    if error.code == "model_not_found":
        return "model"
    first = message.split(" ", 1)[0].rstrip(":")
    return first if error.code == "invalid_request" and first in _FIELDS else None


_FIELDS = frozenset(
    (
        "prompt", "messages", "n", "max_tokens", "min_tokens", "temperature", "top_p", "top_k",
        "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias",
        "allowed_token_ids", "bad_words", "stop", "stop_token_ids", "seed", "logprobs",
        "prompt_logprobs",
    )
)  # fmt: skip
