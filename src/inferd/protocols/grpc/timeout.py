"""The header grpc-timeout: how long a client waits for a whole call. Pure.

Source: gRPC over HTTP/2, "Timeout": at most eight digits and a unit.
"""

from inferd.errors import InvalidRequest

_NS = {
    b"H": 3_600_000_000_000, b"M": 60_000_000_000, b"S": 1_000_000_000, b"m": 1_000_000,
    b"u": 1_000, b"n": 1,
}  # fmt: skip

MAX_DIGITS = 8


def timeout_ns(value: bytes) -> int:
    """Nanoseconds, one at least: a client whose time is over has set a limit, too. Raises
    InvalidRequest."""
    digits, unit = value[:-1], _NS.get(value[-1:])
    if unit is None or not digits.isdigit() or len(digits) > MAX_DIGITS:
        raise InvalidRequest(
            f"grpc-timeout '{value.decode('latin-1')}' is not at most {MAX_DIGITS} digits and one "
            "of H M S m u n"
        )
    return int(digits) * unit or 1
