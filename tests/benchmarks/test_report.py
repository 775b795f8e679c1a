"""The order of the report."""

from benchmarks.report import markdown
from benchmarks.suite import Record


def load(server: str, rate: float) -> Record:
    figures = {"requests_per_second": rate, "p50_ms": 1.0, "p99_ms": 2.0}
    figures |= {"bad_status": 0, "socket_errors": 0}
    return Record("load", server, "python-mlp", "V2 JSON", 32, 0, figures)


def test_the_report_ends_with_what_inferd_loses() -> None:
    text = markdown([load("inferd", 80.0), load("mosec", 100.0)], "Benchmarks", [])
    assert "| python-mlp, V2 JSON: inferd by mosec | 0.9 | 0.80 | NO |" in text
    assert text.rstrip().endswith(
        "* python-mlp, 32 connections, requests_per_second: mosec (V2 JSON) 100.000, inferd 80.000"
    )
