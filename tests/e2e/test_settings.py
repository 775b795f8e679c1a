"""Log settings, over both protocols, by stock clients, of a real server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from e2e.harness import RunningServer, eventually
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
    running = RunningServer(tmp_path_factory.mktemp("log") / "server.log", folder, "--access-log")
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
            ({"log_error": None}, "400", "INVALID_ARGUMENT", "'log_error'"),
        ):
            found, message = refused(over_http.update_log_settings, wrong)
            assert (found, words in message) == (status, True), message
            found, message = refused(over_grpc.update_log_settings, wrong)
            assert (found, words in message) == (f"StatusCode.{code}", True), message
        assert over_http.get_log_settings() == before
    assert server.post("/v2/logging", b"[]").status == 400
    assert server.post("/v2/logging", b"{").status == 400
