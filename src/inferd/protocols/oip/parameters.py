"""What parameters of requests, inputs and outputs mean to the server itself. Pure.

Source: Triton's extensions of the Open Inference Protocol.
"""

from collections.abc import Mapping
from typing import Any

from inferd.errors import InvalidRequest, Unsupported
from inferd.types.inference import RequestedOutput

CONSUMED = frozenset(
    {"binary_data_output", "timeout", "priority", "sequence_id", "sequence_start", "sequence_end"}
)
"""Request parameters that the server itself acts on or, for models without sequences, ignores."""


def request_parameters(wire: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int, bool]:
    """The parameters that the model may see, the queue time-out in microseconds, and whether
    outputs that do not say are wanted in binary."""
    binary = wire.get("binary_data_output", False)
    if not isinstance(binary, bool):
        raise InvalidRequest("parameter 'binary_data_output' must be true or false")
    timeout = wire.get("timeout", 0)
    if type(timeout) is not int or timeout < 0:
        raise InvalidRequest(
            f"parameter 'timeout' must be a non-negative integer (microseconds), got {timeout!r}"
        )
    rest = {}
    for key, value in wire.items():
        if key.startswith("triton_"):
            raise InvalidRequest(f"parameter keys starting with 'triton_' are reserved: '{key}'")
        if key not in CONSUMED:
            rest[key] = value
    return rest or None, timeout, binary


def check_input_parameters(name: str, parameters: Mapping[str, Any]) -> None:
    """Refuse an input that lies elsewhere."""
    if "shared_memory_region" in parameters:
        raise Unsupported(f"input '{name}': shared memory is not supported by this server")


def requested_output(
    name: str, parameters: Mapping[str, Any], binary_default: bool = False
) -> tuple[RequestedOutput, bool]:
    """An output that is asked for, and whether in binary, where the protocol leaves a choice."""
    if "shared_memory_region" in parameters:
        raise Unsupported(f"output '{name}': shared memory is not supported by this server")
    binary = parameters.get("binary_data", binary_default)
    if not isinstance(binary, bool):
        raise InvalidRequest(f"output '{name}': parameter 'binary_data' must be true or false")
    count = parameters.get("classification", 0)
    if type(count) is not int or count < 0:
        raise InvalidRequest(
            f"output '{name}': parameter 'classification' must be a positive integer"
        )
    return RequestedOutput(name, count), binary
