"""What parameters of a request mean to the server itself."""

from typing import Any

import pytest

from inferd.errors import InvalidRequest
from inferd.protocols.oip.parameters import RequestOptions, request_options
from inferd.types.inference import SequenceStep


def test_what_the_server_consumes_is_taken_out() -> None:
    wire = {"timeout": 7, "priority": 2, "binary_data_output": True, "temperature": 0.5}
    assert request_options(wire) == RequestOptions({"temperature": 0.5}, 7, 2, None, True)


@pytest.mark.parametrize("id", [1, 2**64 - 1, "a", "x" * 128])
def test_a_step_of_a_sequence(id: int | str) -> None:
    wire = {"sequence_id": id, "sequence_start": True, "sequence_end": False}
    assert request_options(wire) == RequestOptions(sequence=SequenceStep(id, start=True))


@pytest.mark.parametrize("wire", [{}, {"sequence_id": 0}, {"sequence_id": ""}])
def test_no_sequence(wire: dict[str, Any]) -> None:
    assert request_options(wire) == RequestOptions()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", -1), ("priority", "1"), ("priority", True), ("priority", 2**64),
        ("sequence_id", -1), ("sequence_id", 1.5), ("sequence_id", True), ("sequence_id", 2**64),
        ("sequence_id", "x" * 129), ("sequence_start", 1), ("sequence_end", "true"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"parameter '{name}'"):
        request_options({name: value})
