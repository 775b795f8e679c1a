"""The one table from an error's code to an HTTP status, and the body that Triton's clients read."""

import math
from http import HTTPStatus

import orjson

from inferd.errors import InferdError, Overloaded

STATUS_OF: dict[str, int] = {
    "invalid_request": 400,
    "payload_too_large": 413,
    "region_exists": 400,
    "model_not_found": 404,
    "region_not_found": 404,
    "model_unavailable": 503,
    "overloaded": 503,
    "timeout": 503,
    "queue_timeout": 503,
    "cancelled": 499,
    "unsupported": 501,
    "config": 400,
    "backend": 500,
    "engine_dead": 503,
    "internal": 500,
}

REASONS: dict[int, bytes] = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    101: b"Switching Protocols", 200: b"OK", 400: b"Bad Request",
    403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed",
    408: b"Request Timeout", 413: b"Content Too Large", 415: b"Unsupported Media Type",
    417: b"Expectation Failed", 426: b"Upgrade Required", 429: b"Too Many Requests",
    431: b"Request Header Fields Too Large", 499: b"Client Closed Request",
    500: b"Internal Server Error", 501: b"Not Implemented", 503: b"Service Unavailable",
    504: b"Gateway Timeout", 505: b"HTTP Version Not Supported",
}  # fmt: skip


def error_body(message: str) -> bytes:
    """The body of every error: `{"error": message}`."""
    return orjson.dumps({"error": message.encode("utf-8", "replace").decode()})


def error_headers(error: InferdError) -> list[tuple[bytes, bytes]]:
    """Headers that an error adds: when to come back."""
    if isinstance(error, Overloaded):
        return [(b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode())]
    return []
