"""Where a server listens for gRPC, and that it says so."""

import socket

from .conftest import Start
from .onnx_models import Repository, constant
from .process import free_port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_grpc_has_the_port_behind_https(repository: Repository, start: Start) -> None:
    repository.add("m", constant(1))
    server = start(grpc_port=None)
    assert f"grpc:     127.0.0.1:{server.port + 1}\n" in server.log_text()
    assert listens(server.port + 1)
    busy = start(grpc_port=server.port + 1, wait=False)
    assert busy.wait(20) == 2
    said = busy.log_text()
    assert f"grpc_port: cannot listen on 127.0.0.1:{server.port + 1}: " in said
    assert "choose another with --grpc-port (0 takes a free one), or do without" in said
    assert "--no-grpc" in said
    assert "Traceback" not in said
    assert server.ready()


def test_grpc_has_the_port_that_is_said(repository: Repository, start: Start) -> None:
    repository.add("m", constant(1))
    chosen = free_port()
    server = start(grpc_port=chosen)
    assert f"grpc:     127.0.0.1:{chosen}\n" in server.log_text()
    assert listens(chosen)
    assert not listens(server.port + 1)


def test_without_grpc_there_is_no_port_for_it(repository: Repository, start: Start) -> None:
    repository.add("m", constant(1))
    server = start("--no-grpc")
    assert "grpc:" not in server.log_text()
    assert not listens(server.port + 1)
    assert server.stop() == 0
