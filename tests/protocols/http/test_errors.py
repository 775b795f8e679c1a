import json

import pytest

from inferd import errors
from inferd.errors import InferdError, ModelNotFound, Overloaded
from inferd.protocols.http.errors import REASONS, STATUS_OF, error_body, error_headers


def tree(root: type[InferdError]) -> list[type[InferdError]]:
    return [root, *[kind for child in root.__subclasses__() for kind in tree(child)]]


@pytest.mark.parametrize("kind", tree(InferdError))
def test_every_error_has_a_status_and_the_status_a_name(kind: type[InferdError]) -> None:
    assert STATUS_OF[kind.code] in REASONS


def test_every_status_belongs_to_an_error() -> None:
    assert set(STATUS_OF) == {kind.code for kind in tree(InferdError)}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("InvalidRequest", 400), ("PayloadTooLarge", 413), ("ModelNotFound", 404),
        ("ModelUnavailable", 503), ("Overloaded", 503), ("RequestTimeout", 503),
        ("Unsupported", 501), ("ConfigError", 400), ("BackendError", 500), ("InferdError", 500),
    ],
)  # fmt: skip
def test_statuses_are_those_that_clients_of_triton_expect(name: str, status: int) -> None:
    assert STATUS_OF[getattr(errors, name).code] == status


@pytest.mark.parametrize("message", ["plain", 'quo"ted', "line\nbreak", "é€😀", "", "lone \ud800"])
def test_body_is_json_with_one_string(message: str) -> None:
    body = json.loads(error_body(message))
    assert list(body) == ["error"]
    assert body["error"] == message.encode("utf-8", "replace").decode()


@pytest.mark.parametrize(
    ("seconds", "header"), [(1.0, b"1"), (2.1, b"3"), (0.0, b"1"), (60, b"60")]
)
def test_who_is_refused_is_told_in_whole_seconds_when_to_come_back(
    seconds: float, header: bytes
) -> None:
    assert error_headers(Overloaded("full", seconds)) == [(b"retry-after", header)]


def test_other_errors_have_no_headers() -> None:
    assert error_headers(ModelNotFound("x")) == []
