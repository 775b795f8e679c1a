"""What parameters of requests, inputs and outputs mean to the server itself. Pure.

Source: Triton's extensions of the Open Inference Protocol.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from inferd.errors import InvalidRequest
from inferd.protocols.oip.shared_memory import shared_place
from inferd.types.inference import RequestedOutput, SequenceStep

CONSUMED = frozenset(
    {"binary_data_output", "timeout", "priority", "sequence_id", "sequence_start", "sequence_end"}
)
"""Request parameters that the server itself acts on or, for models without sequences, ignores."""

MAX_UINT64 = 2**64 - 1
MAX_SEQUENCE_ID = 128
"""Characters."""


class RequestOptions(NamedTuple):
    """What the parameters of a request say: `parameters` are those that the model may see,
    `timeout_us` is the most that it waits, `binary` how outputs that do not say are wanted."""

    parameters: dict[str, Any] | None = None
    timeout_us: int = 0
    priority: int = 0
    sequence: SequenceStep | None = None
    binary: bool = False


NO_OPTIONS = RequestOptions()


def request_options(wire: Mapping[str, Any]) -> RequestOptions:
    """Read the parameters of a request; raises InvalidRequest."""
    binary = wire.get("binary_data_output", False)
    if not isinstance(binary, bool):
        raise InvalidRequest("parameter 'binary_data_output' must be true or false")
    timeout = wire.get("timeout", 0)
    if type(timeout) is not int or timeout < 0:
        raise InvalidRequest(
            f"parameter 'timeout' must be a non-negative integer (microseconds), got {timeout!r}"
        )
    priority = wire.get("priority", 0)
    if type(priority) is not int or not 0 <= priority <= MAX_UINT64:
        raise InvalidRequest(
            f"parameter 'priority' must be a non-negative integer, got {priority!r}"
        )
    rest = {}
    for key, value in wire.items():
        if key.startswith("triton_"):
            raise InvalidRequest(f"parameter keys starting with 'triton_' are reserved: '{key}'")
        if key not in CONSUMED:
            rest[key] = value
    return RequestOptions(rest or None, timeout, priority, _sequence_step(wire), binary)


def is_sequence_id(id: object) -> bool:
    """Whether a value can be one; those of zero and of no characters say that there is none."""
    if type(id) is int:
        return 0 <= id <= MAX_UINT64
    return isinstance(id, str) and len(id) <= MAX_SEQUENCE_ID


def _sequence_step(wire: Mapping[str, Any]) -> SequenceStep | None:
    """None without a sequence, which is also what ids of zero and of no characters say."""
    id = wire.get("sequence_id", 0)
    if not is_sequence_id(id):
        raise InvalidRequest(
            "parameter 'sequence_id' must be a non-negative integer, or a string of at most "
            f"{MAX_SEQUENCE_ID} characters, got {id!r}"
        )
    flags = []
    for name in ("sequence_start", "sequence_end"):
        flag = wire.get(name, False)
        if not isinstance(flag, bool):
            raise InvalidRequest(f"parameter '{name}' must be true or false, got {flag!r}")
        flags.append(flag)
    return SequenceStep(id, *flags) if id else None


def requested_output(
    name: str, parameters: Mapping[str, Any], binary_default: bool = False
) -> tuple[RequestedOutput, bool]:
    """An output that is asked for, and whether in binary, where the protocol leaves a choice."""
    shared = shared_place(f"output '{name}'", parameters) if parameters else None
    binary = parameters.get("binary_data", binary_default)
    if not isinstance(binary, bool):
        raise InvalidRequest(f"output '{name}': parameter 'binary_data' must be true or false")
    count = parameters.get("classification", 0)
    if type(count) is not int or count < 0:
        raise InvalidRequest(
            f"output '{name}': parameter 'classification' must be a positive integer"
        )
    if shared is not None and count:
        raise InvalidRequest(
            f"output '{name}' can't set both 'shared_memory_region' and 'classification'"
        )
    return RequestedOutput(name, count, shared), binary
