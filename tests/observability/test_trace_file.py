import json
import logging
from pathlib import Path

import pytest

from inferd.observability.trace_file import TraceFile
from inferd.observability.tracing import Compute, Trace

ANSWERED = Trace(7, "m", 2, "r1", 10, 60, Compute(20, 30, 40, 50))
FAILED = Trace(8, "m", 2, "", 10, 60, None)


def test_a_trace_is_whose_it_is_and_its_times(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    file = TraceFile(path)
    file.write([ANSWERED, FAILED], apart=False)
    file.close()
    assert json.loads(path.read_bytes()) == [
        {"id": 7, "model_name": "m", "model_version": 2, "request_id": "r1"},
        {
            "id": 7,
            "timestamps": [
                {"name": "REQUEST_START", "ns": 10},
                {"name": "QUEUE_START", "ns": 10},
                {"name": "COMPUTE_START", "ns": 20},
                {"name": "COMPUTE_INPUT_END", "ns": 30},
                {"name": "COMPUTE_OUTPUT_START", "ns": 40},
                {"name": "COMPUTE_END", "ns": 50},
                {"name": "REQUEST_END", "ns": 60},
            ],
        },
        {"id": 8, "model_name": "m", "model_version": 2, "request_id": ""},
        {
            "id": 8,
            "timestamps": [
                {"name": "REQUEST_START", "ns": 10},
                {"name": "QUEUE_START", "ns": 10},
                {"name": "REQUEST_END", "ns": 60},
            ],
        },
    ]


def test_one_file_goes_on_and_others_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("of another server")
    file = TraceFile(path)
    for apart in (False, True, False, True):
        file.write([ANSWERED], apart)
    file.close()
    found = {each.name: len(json.loads(each.read_bytes())) for each in tmp_path.iterdir()}
    assert found == {"trace.json": 4, "trace.json.0": 2, "trace.json.1": 2}


def test_without_traces_there_is_no_file(tmp_path: Path) -> None:
    TraceFile(tmp_path / "trace.json").close()
    assert list(tmp_path.iterdir()) == []


def test_a_failure_to_write_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = TraceFile(tmp_path / "gone" / "trace.json")
    with caplog.at_level(logging.ERROR, "inferd.traces"):
        file.write([ANSWERED], apart=True)
        file.close()
    assert caplog.messages == ["traces are lost"]


def test_a_request_id_that_utf8_cannot_hold_costs_its_file_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "trace.json"
    file = TraceFile(path)
    with caplog.at_level(logging.ERROR, "inferd.traces"):
        file.write([ANSWERED._replace(request_id="\ud800")], apart=False)
        file.write([ANSWERED], apart=False)
        file.close()
    assert caplog.messages == ["traces are lost"]
    assert len(json.loads(path.read_bytes())) == 2
