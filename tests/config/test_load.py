import os
import re
from pathlib import Path

import pytest

from inferd.config.load import load_server_config, option_hints
from inferd.config.server import ServerConfig
from inferd.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "inferd.yaml"
    path.write_text("http-port: 8101\nhost: 0.0.0.0\nload_model: [a, b]\nlog_level: debug\n")
    return str(path)


def refusal(
    argv: dict[str, object] | None = None,
    text: str | None = None,
    environ: dict[str, str] | None = None,
    *,
    folder: Path,
) -> ConfigError:
    path = folder / "inferd.yaml"
    path.write_text(text or "")
    with pytest.raises(ConfigError) as caught:
        load_server_config(argv or {}, str(path), environ or {})
    return caught.value


def test_nothing_said_is_the_default() -> None:
    loaded = load_server_config({}, None, {"PATH": "/bin", "HOME": "/root"})
    assert loaded.config == ServerConfig()
    assert set(loaded.origins) == set(option_hints())
    assert set(loaded.origins.values()) == {"default"}


def test_command_line_beats_environment_beats_file_beats_default(file: str) -> None:
    environ = {"INFERD_HTTP_PORT": "8102", "INFERD_HOST": "::1", "INFERD_CONFIG": "not-read.yaml"}
    loaded = load_server_config({"http_port": 8103}, file, environ)
    assert loaded.config == ServerConfig(
        http_port=8103, host="::1", load_model=("a", "b"), log_level="debug"
    )
    assert loaded.origins["http_port"] == "command line --http-port"
    assert loaded.origins["host"] == "environment INFERD_HOST"
    assert loaded.origins["load_model"] == f"file {file}"
    assert loaded.origins["threads"] == "default"


def test_the_environment_can_name_the_file(file: str) -> None:
    loaded = load_server_config({}, None, {"INFERD_CONFIG": file})
    assert (loaded.config.http_port, loaded.origins["http_port"]) == (8101, f"file {file}")


def test_environment_text_becomes_the_type_of_the_field() -> None:
    environ = {
        "INFERD_PATHS": os.pathsep.join(["/a,b", "/c"]),
        "INFERD_LOAD_MODEL": "one, two,",
        "INFERD_STRICT_READINESS": "false",
        "INFERD_EXIT_ON_ERROR": "1",
        "INFERD_EXIT_TIMEOUT_SECS": "2.5",
        "INFERD_HTTP_PORT": "0",
        "INFERD_HOST": "",
        "INFERD_LOG_FORMAT": "json",
    }
    config = load_server_config({}, None, environ).config
    assert config == ServerConfig(
        paths=("/a,b", "/c"),
        load_model=("one", "two"),
        strict_readiness=False,
        exit_on_error=True,
        exit_timeout_secs=2.5,
        http_port=0,
        log_format="json",
    )


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("app.py:Digits", ("app.py:Digits",)),
        ("/a:app.py:Digits:/b", ("/a", "app.py:Digits", "/b")),
        ("x=app.py:Digits:y=app.py:Mood", ("x=app.py:Digits", "y=app.py:Mood")),
        ("app.py:/b", ("app.py", "/b")),
        ("app.py:other.py", ("app.py", "other.py")),
    ],
)
def test_a_class_stays_with_its_file(text: str, paths: tuple[str, ...]) -> None:
    assert load_server_config({}, None, {"INFERD_PATHS": text}).config.paths == paths


def test_what_kubernetes_sets_beside_a_service_called_inferd_is_not_ours() -> None:
    environ = {
        "INFERD_SERVICE_HOST": "10.0.0.1",
        "INFERD_SERVICE_PORT": "8000",
        "INFERD_SERVICE_PORT_HTTP": "8000",
        "INFERD_PORT": "tcp://10.0.0.1:8000",
        "INFERD_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "INFERD_PORT_8000_TCP_ADDR": "10.0.0.1",
        "INFERD_HTTP_SERVICE_HOST": "10.0.0.1",
        "INFERD_HTTP_PORT": "tcp://10.0.0.1:8000",
    }
    assert load_server_config({}, None, environ).config == ServerConfig()


@pytest.mark.parametrize(
    "field", ["exit_timeout_secs", "repository_poll_secs", "grpc_min_ping_interval_secs"]
)
def test_times_that_may_be_none_at_all_in_triton_may_be_here(field: str) -> None:
    assert getattr(load_server_config({field: 0.0}, None, {}).config, field) == 0
    with pytest.raises(ConfigError, match=field):
        load_server_config({field: -1.0}, None, {})


def test_origins_name_the_option_as_it_is_typed() -> None:
    argv = {"paths": ("m.onnx",), "strict_readiness": False, "access_log": True}
    origins = load_server_config(argv, None, {}).origins
    assert origins["paths"] == "command line PATH"
    assert origins["strict_readiness"] == "command line --no-strict-readiness"
    assert origins["access_log"] == "command line --access-log"


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        ("htp_port: 1\n", "htp_port", "unknown field, did you mean http_port?"),
        ("http-prt: 1\n", "http-prt", "did you mean http_port?"),
        ("http_port: 99999\n", "http_port", "expected `int` <= 65535, got 99999"),
        ("http_port: '80'\n", "http_port", "expected `int`, got '80'"),
        ("http_port:\n", "http_port", "expected `int`, got null"),
        ("log_level: loud\n", "log_level", "one of debug, info, warning, error, got 'loud'"),
        ("load_model: [a, 3]\n", "load_model[1]", "expected `str`, got 3"),
        ("exit_timeout_secs: .inf\n", "exit_timeout_secs", "expected a finite number"),
        ("http_port: 1\nhttp-port: 2\n", "http_port", "is there twice"),
        ("- 1\n", "", "must be a mapping"),
        ("http_port: 1\nhost: [\n", "", "line 3"),
    ],
)
def test_a_wrong_file_names_file_and_field(
    tmp_path: Path, text: str, field: str, message: str
) -> None:
    error = refusal(text=text, folder=tmp_path)
    assert (error.file, error.field) == (str(tmp_path / "inferd.yaml"), field)
    assert message in str(error)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("INFERD_HTP_PORT", "1", "unknown variable, did you mean INFERD_HTTP_PORT?"),
        ("INFERD_HTTP_PORT", "many", "http_port: expected `int`, got 'many'"),
        ("INFERD_HTTP_PORT", "70000", "http_port: expected `int` <= 65535"),
        ("INFERD_ACCESS_LOG", "perhaps", "access_log: expected `bool`, got 'perhaps'"),
        ("INFERD_MODEL_CONTROL_MODE", "pol", "expected one of none, poll, explicit, got 'pol'"),
        ("INFERD_EXIT_TIMEOUT_SECS", "inf", "expected a finite number"),
    ],
)
def test_a_wrong_variable_is_named(tmp_path: Path, name: str, value: str, message: str) -> None:
    error = refusal(environ={name: value}, folder=tmp_path)
    assert error.file == f"environment {name}"
    assert message in str(error)


def test_a_wrong_option_is_named(tmp_path: Path) -> None:
    error = refusal({"http_max_input_size": 0}, folder=tmp_path)
    assert str(error) == (
        "command line --http-max-input-size: http_max_input_size: expected `int` >= 1, got 0"
    )


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    loaded = load_server_config({}, str(tmp_path / "empty.yaml"), {})
    assert loaded.config == ServerConfig()


# -- options of language models -------------------------------------------------------------------


def test_an_engines_options_are_kept_apart_and_only_where_somebody_said_them() -> None:
    environ = {"INFERD_QUANTIZATION": "int8", "INFERD_MAX_NUM_SEQS": "8"}
    loaded = load_server_config({"max_num_seqs": 4, "seed": 7}, None, environ)
    assert loaded.config.engine == {"quantization": "int8", "max_num_seqs": 4, "seed": 7}
    assert loaded.origins["max_num_seqs"] == "command line --max-num-seqs"
    assert loaded.values()["max_num_seqs"] == 4
    assert loaded.values()["dtype"] == "auto"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ({"quantization": "int7"}, "quantization"),
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"quantisation": "int8"}, "did you mean quantization?"),
        ({"engine": {}}, "unknown option"),
    ],
)
def test_an_engines_options_are_checked_as_all_others(
    argv: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_server_config(argv, None, {})
