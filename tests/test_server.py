"""What options say of gRPC reaches its connections; these are fed without sockets."""

from pathlib import Path
from typing import Any

import pytest

from inferd.config.load import load_server_config
from inferd.config.server import ServerConfig
from inferd.equipment import log_file, log_settings, server_tls
from inferd.errors import ConfigError, InferdError
from inferd.observability.log_settings import LogSettings
from inferd.protocols.grpc.framing import framed
from inferd.protocols.http.app import create_app, own_paths
from inferd.protocols.http2.frames import (
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    NO_ERROR,
    PING,
    REFUSED_STREAM,
    frame,
)
from inferd.server import NetworkServer
from protocols.http2.client import Client, data, headers, request


def client(**options: Any) -> Client:
    """A client of the connections that a server with these options has."""
    server = NetworkServer(ServerConfig(paths=("model.onnx",), **options))
    assert server.grpc is not None
    made = Client(server.grpc.limits, sink=server.calls)  # type: ignore[arg-type]
    return made.begin()


def kinds(frames: list[Any]) -> list[int]:
    return [kind for kind, *_ in frames]


def ping(to: Client, now_s: float) -> tuple[int, bytes] | None:
    to.now_s = now_s
    return to.error(frame(PING, 0, 0, bytes(8)))


def test_a_silent_client_is_pinged_and_left() -> None:
    silent = client(grpc_keepalive_secs=3.0, grpc_keepalive_timeout_secs=2.0)
    assert silent.tick(2.9) == []
    assert kinds(silent.tick(3.1)) == [PING]
    assert silent.tick(5.0) == []
    assert kinds(silent.tick(5.2)) == [GOAWAY]
    assert silent.connection.closing


@pytest.mark.parametrize(
    ("interval", "strikes", "apart", "error"),
    [
        (2.0, 2, 1.0, (ENHANCE_YOUR_CALM, b"too_many_pings")),
        (2.0, 2, 2.1, None),
        (2.0, 9, 1.0, None),
        (2.0, 0, 1.0, None),
        (0.5, 2, 1.0, None),
    ],
)
def test_pings_that_come_too_early(
    interval: float, strikes: int, apart: float, error: tuple[int, bytes] | None
) -> None:
    eager = client(grpc_min_ping_interval_secs=interval, grpc_max_ping_strikes=strikes)
    told = [ping(eager, apart * number) for number in range(1, 5)]
    assert told == [None, None, None, error]


def test_an_old_connection_is_left_and_its_calls_after_a_grace() -> None:
    old = client(grpc_max_connection_age_secs=5.0, grpc_max_connection_age_grace_secs=3.0)
    block = request(_path=b"/inference.GRPCInferenceService/ServerLive")
    old.send(headers(1, block))  # and nothing more
    assert old.tick(4.9) == []
    assert GOAWAY in kinds(old.tick(5.1))
    old.tick(8.0)
    assert not old.connection.closing
    ((kind, _, _, payload),) = old.tick(8.3)
    assert (kind, int.from_bytes(payload[4:8], "big"), payload[8:]) == (
        GOAWAY,
        NO_ERROR,
        b"max_age",
    )


def test_streams_of_one_connection() -> None:
    greedy = client(grpc_max_concurrent_streams=2)
    block = request(_path=b"/inference.GRPCInferenceService/ServerLive")
    assert greedy.resets(*[headers(n, block) for n in (1, 3, 5)]) == [(5, REFUSED_STREAM)]


@pytest.mark.parametrize(("size", "status"), [(1000, b"13"), (1001, b"8")])
def test_the_largest_message(size: int, status: bytes) -> None:
    sender = client(grpc_max_input_size=1000)
    block = request(_path=b"/inference.GRPCInferenceService/ModelInfer")
    message = bytes(size)  # no protobuf
    frames = sender.send(headers(1, block), data(1, framed(message), END_STREAM))
    ((_, _, _, answer),) = [one for one in frames if one[0] == HEADERS]
    assert dict(sender.fields(answer))[b"grpc-status"] == status


def test_no_listener_without_grpc() -> None:
    assert NetworkServer(ServerConfig(paths=("model.onnx",), grpc=False)).grpc is None


@pytest.mark.parametrize(
    "option", ["grpc_keepalive_secs", "grpc_keepalive_timeout_secs", "grpc_max_concurrent_streams"]
)
def test_values_that_make_no_sense_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        load_server_config({"paths": ("model.onnx",), option: 0}, None, {})


# -- what options ask for -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"http": False, "grpc": False}, "neither HTTP nor gRPC"),
        ({"grpc_use_ssl": True}, "needs a certificate and its key"),
        ({"grpc_use_ssl_mutual": True}, "grpc_use_ssl_mutual: needs --grpc-root-cert"),
        ({"trace_config": ("level=TIMESTAMPS",)}, "nothing can be traced without a file"),
        ({"trace_config": ("level=TENSORS",)}, "tensors are not traced"),
        ({"trace_config": ("triton,file=/nowhere/at/all",)}, "cannot write traces to /nowhere"),
        ({"backend_config": ("onnxruntime,threads=1",)}, "unknown setting"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InferdError, match=message):
        NetworkServer(ServerConfig(paths=("model.onnx",), **options))


def test_traces_are_those_of_the_options_from_the_start(tmp_path: Path) -> None:
    entries = f"triton,file={tmp_path / 'traces.json'}", "level=TIMESTAMPS", "rate=3"
    server = NetworkServer(ServerConfig(paths=("model.onnx",), trace_config=entries))
    settings = server.core.manager.tracing.settings()
    assert (settings.timestamps, settings.rate) == (True, 3)
    assert server.core.manager.tracing.file == str(tmp_path / "traces.json")


@pytest.mark.parametrize(
    ("options", "tls"),
    [
        ({}, True), ({"grpc_use_ssl": True}, True), ({"grpc_use_ssl": False}, False),
        ({"grpc_use_ssl": False, "grpc_use_ssl_mutual": True}, True),
    ],
)  # fmt: skip
def test_certificates_are_used_unless_tls_is_not_wanted(options: dict[str, Any], tls: bool) -> None:
    files = {f"grpc_{name}": "missing.pem" for name in ("server_cert", "server_key", "root_cert")}
    config = ServerConfig(**files, **options)
    if not tls:
        assert server_tls(config) is None
        return
    with pytest.raises(ConfigError, match=r"missing\.pem"):
        server_tls(config)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, LogSettings()),
        ({"log_level": "debug"}, LogSettings(verbose_level=1)),
        ({"log_verbose": 2, "log_error": False}, LogSettings(error=False, verbose_level=2)),
        ({"log_level": "warning", "log_warning": False}, LogSettings(info=False, warning=False)),
        ({"log_format": "default", "log_file": "x"}, LogSettings(format="default", file="x")),
        ({"log_format": "json"}, LogSettings()),
    ],
)
def test_what_is_logged_is_said_by_level_and_by_severity(
    options: dict[str, Any], settings: LogSettings
) -> None:
    assert log_settings(ServerConfig(**options)) == settings


def test_a_log_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ConfigError, match="log_file: /nowhere/at/all cannot be written"):
        log_file(ServerConfig(log_file="/nowhere/at/all"))
    assert log_file(ServerConfig()) is None


def test_metrics_may_be_left_out() -> None:
    for metrics in (True, False):
        app: Any = create_app(None, None, bytes if metrics else None, 1)  # type: ignore[arg-type]
        assert ("/metrics" in own_paths(app)) is metrics
    assert NetworkServer(ServerConfig(paths=("x",), metrics=False, metrics_port=0)).metrics is None
    assert NetworkServer(ServerConfig(paths=("x",))).metrics is None
