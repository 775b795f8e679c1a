"""The suite for any server (`python -m inferd.conformance`), put to inferd."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import onnx
import pytest

from inferd.conformance import onnx_file
from inferd.conformance.__main__ import main
from inferd.conformance.check import CHECKS
from inferd.conformance.checks import AREAS
from inferd.conformance.repository import DATATYPES, LABELS, models, write_repository
from inferd.conformance.suite import Unreachable, look
from inferd.conformance.wire import Target
from lifecycle.process import ServerProcess, free_port


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    """A server of the suite's models, and where it speaks gRPC."""
    root = tmp_path_factory.mktemp("suite")
    write_repository(root / "repository")
    port = free_port()
    process = ServerProcess(
        root / "server.log", root / "repository", "--model-control-mode", "explicit",
        "--load-model", "*", "--no-strict-readiness", "--shared-memory", "system",
        grpc_port=port,
    )  # fmt: skip
    try:
        yield process.wait_ready(), f"127.0.0.1:{port}"
    finally:
        process.stop()


def test_what_inferd_announces_passes(
    served: tuple[ServerProcess, str], capsys: pytest.CaptureFixture[str]
) -> None:
    server, grpc = served
    status = main([f"http://{server.address}", "--grpc", grpc, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert [one for one in said["checks"] if one["outcome"] == "failed"] == []
    assert status == 0
    assert said["server"]["name"] == "inferd"
    for area in ("metadata", "datatypes", "binary data", "validation", "batching", "limits",
                 "repository control", "statistics", "shared memory"):  # fmt: skip
        assert said["totals"][area]["passed"] > 0, area
    for one in said["checks"]:
        assert one["outcome"] == "passed" or one["reason"], one
    assert said["totals"]["drain"] == {"passed": 0, "failed": 0, "skipped": 1}


def test_a_failure_says_what_was_asked_expected_and_got(
    served: tuple[ServerProcess, str], capsys: pytest.CaptureFixture[str]
) -> None:
    server, _ = served
    server.unload("labelled")
    assert main([server.address, "--area", "validation", "--grpc", "127.0.0.1:1"]) == 1
    said = capsys.readouterr().out
    assert "FAILED  validation: a wrong shape is named (grpc)\n  asked     INPUT0 of shape" in said
    assert "SKIPPED validation: 2 checks, the server has no model labelled that is ready" in said
    server.load("labelled")


def test_where_nobody_speaks_the_protocol_nothing_is_checked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([f"http://127.0.0.1:{free_port()}"]) == 2
    assert "no server of the V2 protocol" in capsys.readouterr().err
    assert main(["http://127.0.0.1:1", "--area", "nothing"]) == 2
    assert "no area 'nothing'; there are: metadata" in capsys.readouterr().err


@contextmanager
def other(answers: dict[str, bytes]) -> Iterator[str]:
    """The address of a server that knows these paths, and no others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("content-length", str(len(body or b"{}")))
            self.end_headers()
            self.wfile.write(body or b"{}")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("said", [b"<html>", b"[]", b'{"hello": 1}'])
def test_a_server_of_something_else_is_told_apart(said: bytes) -> None:
    with other({"/v2": said}) as address, pytest.raises(Unreachable, match="no server of the V2"):
        look(Target(address))


def test_a_server_without_an_index_is_asked_for_its_models() -> None:
    said = b'{"name": "n", "version": "1"}'
    with other({"/v2": said, "/v2/models/add_sub/ready": b"{}"}) as address:
        assert look(Target(address)) == ("n", "1", frozenset(), {"add_sub"})


@pytest.mark.parametrize(("url", "local"), [
    ("http://localhost:1", True), ("localhost", True), ("http://[::1]:80", True),
    ("10.0.0.1:80", False), ("http://localhost.example:80", False),
])  # fmt: skip
def test_what_is_on_this_machine(url: str, local: bool) -> None:
    assert Target(url).is_local is local


def test_a_repository_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for backend in ("onnx", "python"):
        arguments = ["--write-repository", str(tmp_path / backend), "--backend", backend]
        assert main(arguments) == 0
        assert main(arguments) == 2
        assert "is not empty" in capsys.readouterr().err
        written = {path.parent.parent.name for path in (tmp_path / backend).glob("*/1/model.*")}
        assert written | {"chain"} == {model.name for model in models("python")}
    assert (tmp_path / "onnx/labelled/labels.txt").read_text().split() == list(LABELS)
    for source in (tmp_path / "python").glob("*/1/model.py"):
        compile(source.read_text(), source, "exec")


@pytest.mark.parametrize("datatype", DATATYPES)
def test_models_written_without_onnx_are_onnx(datatype: str) -> None:
    made = onnx.load_from_string(onnx_file.identity(datatype, ["n", 4]))
    onnx.checker.check_model(made, full_check=True)
    (given,) = made.graph.input
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["n", 4]


def test_every_check_is_in_an_area_and_has_a_name_of_its_own() -> None:
    assert {check.area for check in CHECKS} == set(AREAS)
    names = [(check.area, check.name) for check in CHECKS]
    assert len(set(names)) == len(names)
