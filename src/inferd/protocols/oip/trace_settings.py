"""Trace settings in the words of Triton's trace extension: every setting is a list of strings, and
an empty one takes back what was said of it. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from inferd.errors import InvalidRequest, Unsupported
from inferd.observability.tracing import TraceSettings

MODE = "triton"

MAX_LOG_FREQUENCY = 100_000
"""So many traces wait in memory, at most, to be written."""

NUMBERS = {
    "trace_rate": ("rate", 1, 2**32 - 1),
    "trace_count": ("count", -1, 2**31 - 1),
    "log_frequency": ("log_frequency", 0, MAX_LOG_FREQUENCY),
}


def trace_settings(settings: TraceSettings, file: str) -> dict[str, list[str]]:
    """Every setting in force."""
    return {
        "trace_level": ["TIMESTAMPS" if settings.timestamps else "OFF"],
        **{name: [str(getattr(settings, field))] for name, (field, _, _) in NUMBERS.items()},
        "trace_file": [file],
        "trace_mode": [MODE],
    }


def trace_changes(wire: Mapping[str, Sequence[str]], file: str) -> dict[str, Any]:
    """What a client says of the fields of TraceSettings, None for what it takes back; raises
    InvalidRequest, Unsupported."""
    changes: dict[str, Any] = {}
    for name, values in wire.items():
        if name == "trace_level":
            changes["timestamps"] = _level(values) if values else None
        elif name in NUMBERS:
            field, low, high = NUMBERS[name]
            changes[field] = _number(name, values, low, high) if values else None
        elif name == "trace_file":
            if values and list(values) != [file]:
                raise InvalidRequest(
                    "trace setting 'trace_file' cannot be changed; start the server with "
                    "--trace-file PATH"
                )
        elif name == "trace_mode":
            if values and list(values) != [MODE]:
                raise Unsupported(f"trace setting 'trace_mode' can only be '{MODE}'")
        else:
            known = ", ".join(trace_settings(TraceSettings(), file))
            raise InvalidRequest(f"trace setting '{name}' is unknown; there are: {known}")
    return changes


def as_lists(wire: Mapping[str, Any]) -> dict[str, list[str]]:
    """Settings as JSON has them: a string is a list of one, null an empty one."""
    lists = {}
    for name, value in wire.items():
        values = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(one, str) for one in values):
            raise InvalidRequest(f"trace setting '{name}' takes a string, strings or null")
        lists[name] = values
    return lists


def _level(values: Sequence[str]) -> bool:
    if "TENSORS" in values:
        raise Unsupported(
            "trace setting 'trace_level' cannot be 'TENSORS': tensors are not traced; use "
            "'TIMESTAMPS'"
        )
    if list(values) not in (["OFF"], ["TIMESTAMPS"]):
        raise InvalidRequest("trace setting 'trace_level' takes 'OFF' or 'TIMESTAMPS'")
    return values[0] == "TIMESTAMPS"


def _number(name: str, values: Sequence[str], low: int, high: int) -> int:
    text = values[0]
    digits = text.removeprefix("-")
    if len(values) == 1 and digits.isascii() and digits.isdigit() and len(digits) < 19:
        number = int(text)
        if low <= number <= high:
            return number
    raise InvalidRequest(f"trace setting '{name}' takes a whole number from {low} to {high}")
