"""The order of the report."""

from dataclasses import asdict

from benchmarks.grpc_tensor import GRPC_CLIENT, GRPC_H2LOAD, HTTP_CLIENT, HTTP_SOCKETS
from benchmarks.report import markdown
from benchmarks.slow_streams import SlowCost
from benchmarks.suite import Record


def load(server: str, rate: float) -> Record:
    figures = {"requests_per_second": rate, "p50_ms": 1.0, "p99_ms": 2.0}
    figures |= {"bad_status": 0, "socket_errors": 0}
    return Record("load", server, "python-mlp", "V2 JSON", 32, 0, figures)


def called(server: str, wire: str, rate: float, p99: float) -> Record:
    figures = {"requests_per_second": rate, "p50_ms": 1.0, "p99_ms": p99}
    figures |= {"bad_status": 0, "socket_errors": 0}
    return Record("load", server, "grpc-mlp", wire, 32, 0, figures)


def test_calls_over_grpc_are_compared_under_the_same_load() -> None:
    records = [
        called("inferd", "h2load", 200.0, 2.0),
        called("inferd", "grpc.aio", 50.0, 8.0),
        called("triton", "h2load", 100.0, 3.0),
        called("triton", "grpc.aio", 40.0, 4.0),
        called("grpcio-aio", "h2load", 110.0, 3.0),
        called("grpcio-threads", "h2load", 80.0, 3.0),
    ]
    text = markdown(records, "Benchmarks", [])
    assert "| 32 | triton | h2load | 100 | 1.000 | 3.000 | 0 | 2.00 x |" in text
    assert "| 32 | triton | grpc.aio | 40 | 1.000 | 4.000 | 0 | 1.25 x |" in text
    assert "| 32 | inferd | grpc.aio | 50 | 1.000 | 8.000 | 0 | 0.25 x its h2load |" in text
    assert "| grpc-mlp, h2load: inferd by Triton | at least 1.3 | 2.00 | yes |" in text
    assert "| grpc-mlp, grpc.aio: inferd by Triton | at least 1.3 | 1.25 | NO |" in text
    assert "| grpc-mlp, h2load: Triton's p99 by inferd's | at least 1 | 1.50 | yes |" in text
    assert "| grpc-mlp, grpc.aio: Triton's p99 by inferd's | at least 1 | 0.50 | NO |" in text
    assert "by the better grpcio echo | at least 2 | 1.82 | NO |" in text
    assert "MLServer" not in text
    assert "* grpc-mlp, 32 connections, p99_ms: triton (grpc.aio) 4.000, inferd 8.000" in text


def test_a_large_tensor_over_grpc_is_seen_beside_http() -> None:
    rates = {HTTP_CLIENT: 12.0, GRPC_CLIENT: 10.0, HTTP_SOCKETS: 28.0, GRPC_H2LOAD: 20.0}
    records = [
        Record("tensor", "inferd", "grpc-16mb", wire, 1, 0,
               {"requests_per_second": rate, "gb_per_second": rate / 60})
        for wire, rate in rates.items()
    ]  # fmt: skip
    text = markdown(records, "Benchmarks", [])
    assert "## grpc-16mb" in text
    assert "## tensor-4mb" not in text
    assert "tritonclient: time over gRPC by time over HTTP | at most 1.3 | 1.20 | yes |" in text
    assert "bare sockets: time over gRPC by time over HTTP | at most 1.3 | 1.40 | NO |" in text


def test_slow_streams_are_told_with_what_others_noticed() -> None:
    cost = SlowCost(1000, 2000, 0, 100.0, 150.0, 110.0, 0.5, 0.6, 0.5)
    record = Record("slow-streams", "inferd", "grpc-slow-streams", "gRPC", 0, 0, asdict(cost))
    text = markdown([record], "Benchmarks", [])
    assert "1,000 streams on 10 connections" in text
    assert "100.0 MiB before, 150.0 with them, 110.0 after" in text
    assert "| at most 1.1 | 1.20 | NO |" in text


def test_the_report_ends_with_what_inferd_loses() -> None:
    text = markdown([load("inferd", 80.0), load("mosec", 100.0)], "Benchmarks", [])
    assert "| python-mlp, V2 JSON: inferd by mosec | at least 0.9 | 0.80 | NO |" in text
    assert text.rstrip().endswith(
        "* python-mlp, 32 connections, requests_per_second: mosec (V2 JSON) 100.000, inferd 80.000"
    )
