from typing import Any

import pytest

from inferd.errors import InferdError, InvalidRequest, Unsupported
from inferd.observability.tracing import TraceSettings
from inferd.protocols.oip.trace_settings import as_lists, trace_changes, trace_settings


def test_all_settings_in_force_are_told_as_strings() -> None:
    assert trace_settings(TraceSettings(), "") == {
        "trace_level": ["OFF"],
        "trace_rate": ["1000"],
        "trace_count": ["-1"],
        "log_frequency": ["0"],
        "trace_file": [""],
        "trace_mode": ["triton"],
    }


def test_what_was_told_can_be_sent_back() -> None:
    told = trace_settings(TraceSettings(True, 2, 3, 4), "/t")
    assert trace_changes(told, "/t") == {
        "timestamps": True, "rate": 2, "count": 3, "log_frequency": 4,
    }  # fmt: skip


def test_nothing_takes_back() -> None:
    wire: dict[str, list[str]] = {name: [] for name in trace_settings(TraceSettings(), "")}
    assert trace_changes(wire, "") == {
        "timestamps": None, "rate": None, "count": None, "log_frequency": None,
    }  # fmt: skip


def test_json_is_lists_of_strings() -> None:
    wire = {"trace_level": ["OFF"], "trace_rate": "5", "trace_count": None}
    assert as_lists(wire) == {"trace_level": ["OFF"], "trace_rate": ["5"], "trace_count": []}


@pytest.mark.parametrize("value", [5, True, ["1", 2], {}, [None]])
def test_json_that_is_something_else_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="'trace_rate' takes a string, strings or null"):
        as_lists({"trace_rate": value})


@pytest.mark.parametrize(
    ("name", "values", "kind", "words"),
    [
        ("trace_rates", ["1"], InvalidRequest, "'trace_rates' is unknown; there are: trace_level"),
        ("trace_level", ["TENSORS"], Unsupported, "'trace_level' cannot be 'TENSORS'"),
        ("trace_level", ["TIMESTAMPS", "TENSORS"], Unsupported, "use 'TIMESTAMPS'"),
        ("trace_level", ["OFF", "TIMESTAMPS"], InvalidRequest, "takes 'OFF' or 'TIMESTAMPS'"),
        ("trace_level", ["ON"], InvalidRequest, "'trace_level' takes 'OFF' or 'TIMESTAMPS'"),
        ("trace_rate", ["0"], InvalidRequest, "'trace_rate' takes a whole number from 1 to"),
        ("trace_rate", ["1.5"], InvalidRequest, "'trace_rate' takes a whole number"),
        ("trace_rate", ["1", "2"], InvalidRequest, "'trace_rate' takes a whole number"),
        ("trace_rate", ["9" * 5000], InvalidRequest, "'trace_rate' takes a whole number"),
        ("trace_rate", ["²"], InvalidRequest, "'trace_rate' takes a whole number"),
        ("trace_count", ["-2"], InvalidRequest, "'trace_count' takes a whole number from -1 to"),
        ("trace_count", ["--1"], InvalidRequest, "'trace_count' takes a whole number"),
        ("log_frequency", ["-1"], InvalidRequest, "'log_frequency' takes a whole number from 0"),
        ("log_frequency", ["100001"], InvalidRequest, "from 0 to 100000"),
        ("trace_file", ["/other"], InvalidRequest, "'trace_file' cannot be changed"),
        ("trace_mode", ["opentelemetry"], Unsupported, "'trace_mode' can only be 'triton'"),
    ],
)
def test_what_is_wrong_is_named_with_what_it_takes(
    name: str, values: list[str], kind: type[InferdError], words: str
) -> None:
    with pytest.raises(kind) as error:
        trace_changes({name: values}, "/t")
    assert words in str(error.value)
