import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import inferd
from inferd.cli.main import Commands
from inferd.cli.main import inferd as command
from inferd.config.load import option_hints


def run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """The real command, with none of the INFERD_* variables of whoever runs the tests."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("INFERD_")}
    return subprocess.run(
        [sys.executable, "-m", "inferd", *arguments],
        capture_output=True, text=True, timeout=60, env=inherited | environ,
    )  # fmt: skip


def invoke(*arguments: str, **environ: str) -> Result:
    unset = {name: None for name in os.environ if name.startswith("INFERD_")}
    return CliRunner().invoke(command, list(arguments), env={**unset, **environ})


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"inferd {inferd.__version__}\n")


def test_version_imports_nothing_that_a_command_needs() -> None:
    script = (
        "import sys\n"
        "sys.argv = ['inferd', '--version']\n"
        "from inferd.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'onnxruntime', 'rich', 'httpx', 'yaml', 'msgspec', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", list(Commands.late))
def test_every_command_has_help_and_imports_nothing_heavy(name: str) -> None:
    script = (
        "import sys\n"
        "from inferd.cli.main import inferd\n"
        f"inferd([{name!r}, '--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'onnxruntime', 'rich', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert "Usage: " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["serv"], "did you mean serve?"),
        (["models", "lst"], "did you mean list?"),
        (["serve", "--http-prot", "1"], "--http-port"),
        (["serve", "--model-repositry=/x"], "--model-repository"),
        (["config", "show", "--http-thread-cout=1"], "--http-thread-count"),
        (["xyzzy"], "known are: bench, chat, config, doctor, models, serve"),
    ],
)
def test_an_unknown_command_or_option_names_the_nearest(arguments: list[str], near: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert near in result.stderr


@pytest.mark.parametrize("name", ["http-restricted-api", "grpc-restricted-protocol"])
def test_an_option_that_would_protect_is_never_ignored(name: str) -> None:
    result = invoke("serve", "repository", f"--{name}=inference:key=value")
    assert result.exit_code == 2
    assert f"--{name} is not there yet, and nothing would be restricted" in result.stderr


def test_options_of_tritonserver_are_those_of_ours() -> None:
    arguments = ["--model-repository=/a", "--allow-grpc=0", "--log-verbose", "1", "--http-port=1"]
    result = invoke("config", "show", *arguments, "--format", "json")
    shown = {name: entry["value"] for name, entry in json.loads(result.stdout).items()}
    assert (shown["paths"], shown["grpc"], shown["log_verbose"]) == (["/a"], False, 1)
    assert shown["http_port"] == 1


def test_every_field_is_an_option_with_its_help_and_default() -> None:
    result = invoke("serve", "--help")
    text = " ".join(result.stdout.split())
    for field in option_hints():
        assert field == "paths" or f"--{field.replace('_', '-')}" in text
    assert (
        "--http-port INTEGER Port of the HTTP front end; 0 takes a free one. [default: 8000]"
    ) in text
    assert "--model-control-mode [none|poll|explicit]" in text
    assert "--strict-readiness / --no-strict-readiness" in text
    assert "--enable-prefix-caching / --no-enable-prefix-caching" in text
    assert "--quantization [int8|int4]" in text


def test_config_show_prints_value_and_origin_of_every_field(tmp_path: Path) -> None:
    file = tmp_path / "inferd.toml"
    file.write_text("http_port = 8101\nthreads = 3\n")
    arguments = ["a.onnx", "b", "--config", str(file), "--no-strict-readiness", "--load-model", "m"]
    done = run("config", "show", *arguments, "--format", "json", INFERD_HTTP_PORT="8102")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert list(shown) == list(option_hints())
    assert shown["paths"] == {"value": ["a.onnx", "b"], "origin": "command line PATH"}
    assert shown["http_port"] == {"value": 8102, "origin": "environment INFERD_HTTP_PORT"}
    assert shown["threads"] == {"value": 3, "origin": f"file {file}"}
    assert shown["strict_readiness"]["origin"] == "command line --no-strict-readiness"
    assert shown["load_model"] == {"value": ["m"], "origin": "command line --load-model"}
    assert shown["host"] == {"value": "127.0.0.1", "origin": "default"}


def test_config_show_aligns_plain_text_in_a_pipe() -> None:
    lines = invoke("config", "show", "--http-port", "8000").stdout.splitlines()
    assert len(lines) == 1 + len(option_hints())
    given = next(line for line in lines if line.startswith("http_port"))
    assert {line.index(word) for line, word in [(lines[0], "ORIGIN"), (lines[2], "default")]} == {
        given.index("command line --http-port")
    }
    assert not any("\x1b" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (["--http-port", "70000"], {}, "command line --http-port: http_port: expected `int`"),
        (["--config", "none.yaml"], {}, "none.yaml: cannot be read"),
        ([], {"INFERD_HTP_PORT": "1"}, "did you mean INFERD_HTTP_PORT?"),
        ([], {"INFERD_CONFIG": "none.yaml"}, "none.yaml: cannot be read"),
    ],
)
def test_an_error_is_one_line_and_status_2(
    arguments: list[str], environ: dict[str, str], message: str
) -> None:
    done = run("serve", "model.onnx", *arguments, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_serve_without_a_path_says_what_to_type() -> None:
    done = run("serve")
    assert done.returncode == 2
    assert "inferd serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_cannot_drive_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"a\\u001b[31m": 1}')
    result = CliRunner().invoke(command, ["config", "show", "--config", str(file)])
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("action", [["list"], ["load", "a/b"], ["unload", "m"]])
def test_models_without_a_server_says_how_to_start_one(action: list[str]) -> None:
    done = run("models", *action, "--url", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr == (
        "error: no server answers at http://127.0.0.1:1; start one with: inferd serve PATH\n"
    )


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://h:99999", "http://u:p@h", "h:x"])
def test_models_refuses_what_is_no_url(url: str) -> None:
    result = invoke("models", "list", INFERD_URL=url)
    assert result.exit_code == 2
    assert "write http://HOST:PORT" in result.stderr


def test_every_late_command_exists_under_its_name() -> None:
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        assert found.name == name
