"""A value that does not fit its place, before it is known whose place that is."""

import re
from typing import Any

import msgspec

_AT = re.compile(r"^(?P<text>.*?)(?: - at (?:(?P<key>key|value) in )?`\$(?P<path>[^`]*)`)?$", re.S)


class Mismatch(Exception):
    """`text` says what was expected and what came, `path` where inside the value it lies."""

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.path = path

    def of(self, place: str, name: str) -> str:
        """For example `argument 'person.age': expected int, got str`."""
        return f"{place} '{name}{self.path}': {self.text}"


def from_msgspec(error: msgspec.MsgspecError) -> Mismatch:
    """In msgspec's words, its `$` taken away."""
    match = _AT.match(str(error))
    assert match is not None  # every part may be empty
    text = match["text"].replace("`", "")
    return Mismatch(text[:1].lower() + text[1:], match["path"] or "")


def type_name(value: Any) -> str:
    """The type of a value, for an error; of an array its dtype and shape."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and hasattr(value, "dtype"):
        return f"{value.dtype} array of shape {list(shape)}"
    return type(value).__name__
