"""Log and trace settings, over both protocols, by stock clients, of a real server."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from e2e.harness import RunningServer, eventually
from inferd.config.server import ServerConfig
from inferd.errors import ConfigError
from inferd.server import NetworkServer
from models import mlp, write_model

Settings = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("settings")
    for name in ("mlp", "other"):
        write_model(folder, name, mlp(), {"max_batch_size": 8})
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One of their own: what they change is the server's."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    running = RunningServer(log, folder, "--access-log", "--trace-file", log.with_name("traces"))
    yield running
    running.stop()


@contextmanager
def clients(server: RunningServer) -> Iterator[tuple[Any, Any]]:
    with (
        triton_http.InferenceServerClient(server.url.removeprefix("http://")) as over_http,
        triton_grpc.InferenceServerClient(server.grpc) as over_grpc,
    ):
        yield over_http, over_grpc


def plain(settings: Settings) -> Settings:
    """Settings of gRPC's, as JSON, in the words of HTTP."""
    return {name: next(iter(value.values())) for name, value in settings["settings"].items()}


def listed(settings: Settings) -> Settings:
    """Trace settings of gRPC's, as JSON, in the words of HTTP."""
    values = {name: value["value"] for name, value in settings["settings"].items()}
    return {n: v if n == "trace_level" else v[0] for n, v in values.items()}


def refused(call: Callable[..., object], *arguments: object) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as error:
        call(*arguments)
    return str(error.value.status()), str(error.value.message())


def test_log_settings_are_the_same_over_both_protocols(server: RunningServer) -> None:
    with clients(server) as (over_http, over_grpc):
        before = over_http.get_log_settings()
        assert before == {
            "log_file": "", "log_info": True, "log_warning": True, "log_error": True,
            "log_verbose_level": 0, "log_format": "ISO8601",
        }  # fmt: skip
        assert plain(over_grpc.get_log_settings(as_json=True)) == before
        changed = over_http.update_log_settings({"log_warning": False, "log_verbose_level": 1})
        assert changed == before | {"log_warning": False, "log_verbose_level": 1}
        assert plain(over_grpc.get_log_settings(as_json=True)) == changed
        back = {"log_warning": True, "log_verbose_level": 0, "log_format": "ISO8601"}
        assert plain(over_grpc.update_log_settings(back, as_json=True)) == before
        assert over_http.get_log_settings() == before


def test_a_severity_that_is_off_is_not_logged(server: RunningServer) -> None:
    with clients(server) as (over_http, over_grpc):
        over_http.update_log_settings({"log_info": False})
        server.get("/v2/models/mlp/config")
        over_grpc.update_log_settings({"log_info": True})
        server.get("/v2/models/other/config")
    eventually(lambda: "/v2/models/other/config" in server.log, "a line while it is on")
    assert "/v2/models/mlp/config" not in server.log


def test_wrong_log_settings_are_refused_by_name_and_change_nothing(server: RunningServer) -> None:
    with clients(server) as (over_http, over_grpc):
        before = over_http.get_log_settings()
        for wrong, status, code, words in (
            ({"log_info": False, "log_loud": True}, "400", "INVALID_ARGUMENT", "'log_loud' is unk"),
            ({"log_info": False, "log_file": "/x"}, "400", "INVALID_ARGUMENT", "'log_file' cannot"),
            ({"log_format": "default"}, "501", "UNIMPLEMENTED", "'log_format' cannot be 'default'"),
        ):
            found, message = refused(over_http.update_log_settings, wrong)
            assert (found, words in message) == (status, True), message
            found, message = refused(over_grpc.update_log_settings, wrong)
            assert (found, words in message) == (f"StatusCode.{code}", True), message
        nothing = {"log_error": None}  # which, as in Triton, only JSON can say
        assert over_http.update_log_settings(nothing) == before
        assert refused(over_grpc.update_log_settings, nothing)[0] == "StatusCode.INVALID_ARGUMENT"
        assert over_http.get_log_settings() == before
    assert server.post("/v2/logging", b"[]").status == 400
    assert server.post("/v2/logging", b"{").status == 400


# -- traces ----------------------------------------------------------------------------------------

OFF = {
    "trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0",
    "trace_mode": "triton",
}  # fmt: skip

ANSWERED = (
    "REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START",
    "COMPUTE_END", "REQUEST_END",
)  # fmt: skip


TWICE = """
import inferd

class Twice(inferd.Model):
    def predict(self, x: float) -> float:
        if x < 0:
            raise inferd.InvalidRequest("below 0")
        return 2 * x
"""


@pytest.fixture
def traced(folder: Path, tmp_path: Path) -> Iterator[tuple[RunningServer, Path]]:
    """A server that may trace, and where."""
    path = tmp_path / "traces.json"
    running = RunningServer(tmp_path / "server.log", folder, "--trace-file", path)
    yield running, path
    if running.process.poll() is None:
        running.stop()


def infer(client: Any, module: Any, model: str, request_id: str = "") -> None:
    x = module.InferInput("x", [1, 16], "FP32")
    x.set_data_from_numpy(np.zeros((1, 16), np.float32))
    client.infer(model, [x], request_id=request_id)


def traces(path: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """Model, id and names of the times of each trace of a file, once they are seen to be sound."""
    found = json.loads(path.read_bytes())
    heads, times = found[::2], found[1::2]
    assert [head["id"] for head in heads] == [each["id"] for each in times]
    assert all(head["model_version"] == 1 for head in heads)
    for each in times:
        moments = [stamp["ns"] for stamp in each["timestamps"]]
        assert moments == sorted(moments)
    return [
        (head["model_name"], head["request_id"], tuple(t["name"] for t in each["timestamps"]))
        for head, each in zip(heads, times, strict=True)
    ]


def test_trace_settings_are_the_same_over_both_protocols(server: RunningServer) -> None:
    with clients(server) as (over_http, over_grpc):
        before = over_http.get_trace_settings()
        assert Path(before.pop("trace_file")).name == "traces"
        assert before == OFF
        assert listed(over_grpc.get_trace_settings(as_json=True)).items() >= OFF.items()

        changed = over_grpc.update_trace_settings(
            settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "5"}, as_json=True
        )
        wanted = OFF | {"trace_level": ["TIMESTAMPS"], "trace_rate": "5"}
        assert listed(changed).items() >= wanted.items()
        assert over_http.get_trace_settings("mlp").items() >= wanted.items()

        own = over_http.update_trace_settings("mlp", {"trace_rate": "2", "trace_level": "OFF"})
        assert own.items() >= (OFF | {"trace_rate": "2"}).items()
        assert over_http.get_trace_settings("other").items() >= wanted.items()
        back = over_grpc.update_trace_settings("mlp", {"trace_rate": None}, as_json=True)
        assert listed(back).items() >= (OFF | {"trace_rate": "5"}).items()
        over_http.update_trace_settings("mlp", {"trace_level": None})
        assert over_http.get_trace_settings("mlp").items() >= wanted.items()

        all_back = dict.fromkeys(OFF)
        assert over_http.update_trace_settings(settings=all_back).items() >= OFF.items()


def test_wrong_trace_settings_are_refused_by_name_and_change_nothing(
    server: RunningServer,
) -> None:
    with clients(server) as (over_http, over_grpc):
        before = over_http.get_trace_settings()
        for wrong, status, code, words in (
            ({"trace_rate": "7", "trace_x": "1"}, "400", "INVALID_ARGUMENT", "'trace_x' is unknow"),
            ({"trace_rate": "7", "trace_count": "-2"}, "400", "INVALID_ARGUMENT", "'trace_count'"),
            ({"trace_file": "/x"}, "400", "INVALID_ARGUMENT", "--trace-file"),
            ({"trace_level": ["TENSORS"]}, "501", "UNIMPLEMENTED", "cannot be 'TENSORS'"),
        ):
            found, message = refused(over_http.update_trace_settings, None, wrong)
            assert (found, words in message) == (status, True), message
            found, message = refused(over_grpc.update_trace_settings, None, wrong)
            assert (found, words in message) == (f"StatusCode.{code}", True), message
        found, _ = refused(over_http.update_trace_settings, "nobody", {"trace_rate": "1"})
        assert found == "404"
        found, _ = refused(over_grpc.get_trace_settings, "nobody")
        assert found == "StatusCode.NOT_FOUND"
        assert over_http.get_trace_settings() == before
    assert "takes a string" in server.post("/v2/trace/setting", {"trace_rate": 5}).error


def test_all_traces_are_in_the_file_when_the_server_has_ended(
    traced: tuple[RunningServer, Path],
) -> None:
    server, path = traced
    with clients(server) as (over_http, over_grpc):
        over_http.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
        over_grpc.update_trace_settings("other", {"trace_rate": "3"})
        for number in range(3):
            infer(over_http, triton_http, "mlp", f"h{number}")
            infer(over_grpc, triton_grpc, "mlp")  # as plain as can be: for the express lane
            infer(over_grpc, triton_grpc, "other", f"o{number}")
        over_http.update_trace_settings(settings={"trace_level": ["OFF"]})
        infer(over_http, triton_http, "mlp", "too late")
    server.stop()
    found = traces(path)
    assert {names for _, _, names in found} == {ANSWERED}
    assert [(model, number) for model, number, _ in found if number] == [
        ("mlp", "h0"), ("mlp", "h1"), ("mlp", "h2"), ("other", "o2"),
    ]  # fmt: skip
    assert len(found) == 7


def test_every_so_many_traces_make_a_file_until_the_count_is_used_up(
    traced: tuple[RunningServer, Path],
) -> None:
    server, path = traced
    with clients(server) as (over_http, over_grpc):
        over_grpc.update_trace_settings(
            "mlp",
            {
                "trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": "3",
                "log_frequency": "2",
            },
        )  # fmt: skip
        infer(over_http, triton_http, "mlp", "0")
        assert over_http.get_trace_settings("mlp")["trace_count"] == "2"
        for number in range(1, 6):
            infer(over_http, triton_http, "mlp", str(number))
        assert over_http.get_trace_settings("mlp")["trace_count"] == "0"
        first = path.with_name("traces.json.0")
        eventually(lambda: first.exists() and first.read_bytes().endswith(b"]\n"), "a file")
        assert [number for _, number, _ in traces(first)] == ["0", "1"]
    server.stop()
    assert [number for _, number, _ in traces(path.with_name("traces.json.1"))] == ["2"]
    assert not path.exists()


def test_a_model_in_a_worker_is_traced(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(TWICE)
    path = tmp_path / "traces.json"
    app = f"twice={tmp_path / 'app.py'}"
    server = RunningServer(tmp_path / "server.log", app, "--trace-file", path)
    try:
        on = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}
        answers = [server.post("/v2/models/twice/trace/setting", on)]
        answers += [server.post("/models/twice", {"x": x}) for x in (2.0, -1.0, "no number")]
        assert [answer.status for answer in answers] == [200, 200, 400, 400]
    finally:
        server.stop()
    failed = ("REQUEST_START", "QUEUE_START", "REQUEST_END")
    assert traces(path) == [("twice", "", ANSWERED), ("twice", "", failed)]


def test_a_file_for_traces_that_cannot_be_written_is_said_at_start(folder: Path) -> None:
    for path in (folder / "nowhere" / "traces", folder):
        with pytest.raises(ConfigError, match="cannot write traces to") as error:
            NetworkServer(ServerConfig(paths=(str(folder),), trace_file=str(path)))
        assert error.value.field == "trace_file"


def test_without_a_file_tracing_cannot_be_switched_on(folder: Path, tmp_path: Path) -> None:
    server = RunningServer(tmp_path / "server.log", folder)
    try:
        with clients(server) as (over_http, over_grpc):
            assert over_http.get_trace_settings() == OFF | {"trace_file": ""}
            on = {"trace_level": ["TIMESTAMPS"]}
            for client in (over_http, over_grpc):
                _, message = refused(client.update_trace_settings, None, on)
                assert re.search("start the server with --trace-file", message)
            assert over_http.get_trace_settings()["trace_level"] == ["OFF"]
    finally:
        server.stop()
