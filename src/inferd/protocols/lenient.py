"""JSON as Python's encoder writes it: with NaN and Infinity, which strict JSON lacks. Pure."""

import json
from typing import Any


def has_nan(body: bytes) -> bool:
    """Whether a body that is no strict JSON may be this."""
    return b"NaN" in body or b"Infinity" in body


def decode_with_nan(body: bytes) -> Any:
    """The document; raises ValueError, RecursionError."""
    document = json.loads(body)
    if b"\\u" in body:
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a text has half of a surrogate pair") from error
    return document
