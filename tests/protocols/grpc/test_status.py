from urllib.parse import unquote

import pytest
from grpc import StatusCode
from hypothesis import given as for_all
from hypothesis import strategies as st

from inferd import errors
from inferd.errors import InferdError
from inferd.protocols.grpc.status import (
    MAX_MESSAGE,
    STATUS_OF,
    Status,
    encode_message,
    status_of,
)


def all_errors(kind: type[InferdError] = InferdError) -> set[type[InferdError]]:
    return {kind}.union(*[all_errors(below) for below in kind.__subclasses__()])


def test_codes_are_those_of_grpc() -> None:
    assert {status.name: status.value for status in Status} == {
        code.name: code.value[0] for code in StatusCode
    }


def test_every_error_has_its_status() -> None:
    assert {error.code for error in all_errors()} <= set(STATUS_OF)
    assert status_of(errors.InvalidRequest("")) is Status.INVALID_ARGUMENT
    assert status_of(errors.PayloadTooLarge("")) is Status.RESOURCE_EXHAUSTED
    assert status_of(errors.ModelNotFound("")) is Status.NOT_FOUND
    assert status_of(errors.Overloaded("")) is Status.UNAVAILABLE
    assert status_of(errors.RequestTimeout("")) is Status.DEADLINE_EXCEEDED
    assert status_of(errors.Unsupported("")) is Status.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("", b""),
        ("model 'm' is not found: {}", b"model 'm' is not found: {}"),
        ("100%", b"100%25"),
        ("a\nb\tc\x00\x7f", b"a%0Ab%09c%00%7F"),
        ("é€😀", b"%C3%A9%E2%82%AC%F0%9F%98%80"),
        (" a b ", b"%20a b%20"),
        (" ", b"%20"),
        ("~!", b"~!"),
        ("half \ud800", b"half %3F"),
    ],
)  # fmt: skip
def test_messages(text: str, encoded: bytes) -> None:
    assert encode_message(text) == encoded


@for_all(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_messages_can_be_read_again(text: str) -> None:
    encoded = encode_message(text)
    assert unquote(encoded.decode("ascii")) == text
    assert encoded == encoded.strip()
    assert all(0x20 <= byte <= 0x7E for byte in encoded)


@pytest.mark.parametrize("character", ["a", "%", "é", "😀", " "])
def test_long_messages_are_cut_between_characters(character: str) -> None:
    encoded = encode_message("x" + character * MAX_MESSAGE * 2)
    assert MAX_MESSAGE - 12 < len(encoded) <= MAX_MESSAGE + 2
    text = unquote(encoded.decode("ascii"), errors="strict")
    assert text == "x" + character * (len(text) - 1)
    assert encoded == encoded.strip()
