"""The header by which a client says how long its request may take. Pure."""

from inferd.errors import InvalidRequest

DEADLINE_HEADER = b"x-request-timeout-ms"


def deadline_ns(text: bytes) -> int:
    """Nanoseconds from now; raises InvalidRequest."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise InvalidRequest(
            f"{DEADLINE_HEADER.decode()} must be a positive number of milliseconds, got "
            f"'{text.decode('latin-1')}'"
        )
    return int(value * 1e6)
