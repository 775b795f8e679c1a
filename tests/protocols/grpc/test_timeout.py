"""The header grpc-timeout."""

import pytest

from inferd.errors import InvalidRequest
from inferd.protocols.grpc.timeout import timeout_ns


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [(b"1H", 3_600_000_000_000), (b"2M", 120_000_000_000), (b"3S", 3_000_000_000),
     (b"4m", 4_000_000), (b"5u", 5_000), (b"6n", 6), (b"00000007n", 7), (b"0S", 1),
     (b"99999999n", 99_999_999)],
)  # fmt: skip
def test_digits_and_a_unit(value: bytes, nanoseconds: int) -> None:
    assert timeout_ns(value) == nanoseconds


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"S",
        b"1",
        b"1s",
        b"-1S",
        b"+1S",
        b" 1S",
        b"1.5S",
        b"123456789n",
        b"1_0S",
        "١S".encode(),
    ],
)
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(
        InvalidRequest, match=r"^grpc-timeout '.*' is not at most 8 digits and one of"
    ):
        timeout_ns(value)
