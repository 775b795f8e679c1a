import pytest

from inferd.errors import (
    BackendError,
    EngineDead,
    InferdError,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
    Unsupported,
)
from inferd.protocols.http.errors import REASONS
from inferd.protocols.http.errors import STATUS_OF as STATUS_OF_V2
from inferd.protocols.http.openai.errors import (
    STATUS_OF,
    UnsupportedMediaType,
    error_object,
    openai_error_headers,
    status_of,
)


def test_every_error_has_a_status_and_the_status_a_name() -> None:
    assert set(STATUS_OF) == set(STATUS_OF_V2)
    assert set(STATUS_OF.values()) <= set(REASONS)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (InvalidRequest("x"), 400, "invalid_request_error", None),
        (Unsupported("x"), 400, "invalid_request_error", "unsupported"),
        (UnsupportedMediaType("x"), 415, "invalid_request_error", None),
        (PayloadTooLarge("x"), 413, "invalid_request_error", None),
        (ModelNotFound("x"), 404, "invalid_request_error", "model_not_found"),
        (Overloaded("x"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (ModelUnavailable("x"), 503, "service_unavailable", "model_unavailable"),
        (EngineDead("x"), 503, "service_unavailable", "engine_dead"),
        (RequestTimeout("x"), 504, "server_error", None),
        (BackendError("x"), 500, "server_error", None),
        (InferdError("x"), 500, "server_error", None),
    ],
)
def test_statuses_types_and_codes(
    error: InferdError, status: int, kind: str, code: str | None
) -> None:
    assert status_of(error) == status
    found = error_object(error)
    assert (found["message"], found["type"], found["code"]) == ("x", kind, code)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("top_p must be in (0, 1]", "top_p"), ("prompt: it has no tokens", "prompt"),
        ("whatever it is", None), ("", None),
    ],
)  # fmt: skip
def test_the_field_that_a_message_begins_with_is_named(message: str, param: str | None) -> None:
    assert error_object(InvalidRequest(message))["param"] == param


def test_too_long_has_the_code_that_clients_look_for() -> None:
    error = InvalidRequest("This model's maximum context length is 8 tokens, and ...")
    assert error_object(error)["code"] == "context_length_exceeded"


def test_who_may_come_back_is_told_when() -> None:
    assert openai_error_headers(Overloaded("x", 2.5)) == [(b"retry-after", b"3")]
    assert openai_error_headers(EngineDead("x"))[0][0] == b"retry-after"
    assert openai_error_headers(InvalidRequest("x")) == []


def test_a_message_that_is_no_text_is_still_told() -> None:
    assert error_object(InvalidRequest("lone \ud800"))["message"] == "lone ?"
