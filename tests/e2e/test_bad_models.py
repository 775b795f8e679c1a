import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.harness import RunningServer, command, environment
from e2e.wire import GOOD_BODY, assert_serves
from models import mlp, write_model

Serve = Callable[..., RunningServer]

CORRUPT: dict[str, bytes] = {
    "empty": b"",
    "noise": random.Random(0).randbytes(2000),
    "text": b"this is not a model\n",
    "truncated": mlp()[:-100],
    "cut_short": mlp()[:20],
}


def run_serve(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """A server that is expected to end by itself."""
    return subprocess.run(
        command("serve", *arguments, "--http-port", "0"),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def index(server: RunningServer) -> dict[str, dict[str, str]]:
    return {line["name"]: line for line in server.post("/v2/repository/index").json()}


def test_corrupt_models_leave_the_good_one_served(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "models"
    write_model(root, "mlp", mlp())
    for name, data in CORRUPT.items():
        write_model(root, name, data)
    (root / "no_file" / "1").mkdir(parents=True)
    server = serve(root)
    lines = index(server)
    assert lines.pop("mlp")["state"] == "READY"
    assert set(lines) == {*CORRUPT, "no_file"}
    for name in CORRUPT:
        assert lines[name]["state"] == "UNAVAILABLE", name
        assert "model.onnx" in lines[name]["reason"], name
        assert name in server.log
        answer = server.infer(name, GOOD_BODY)
        assert answer.status == 503, answer
        assert name in answer.error
    assert "model.onnx" in lines["no_file"]["reason"]
    assert server.get("/v2/health/live").status == 200
    assert server.get("/v2/health/ready").status == 400
    assert_serves(server)


def test_server_with_nothing_but_a_corrupt_model_does_not_start(tmp_path: Path) -> None:
    write_model(tmp_path, "broken", CORRUPT["noise"])
    ended = run_serve(tmp_path)
    assert ended.returncode != 0
    assert "broken" in ended.stderr
    assert "model.onnx" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


BAD_CONFIGS: dict[str, tuple[str, list[str]]] = {
    "field": ("max_batch_sise: 4\n", ["max_batch_sise", "did you mean max_batch_size"]),
    "nested": (
        "dynamic_batching: {max_queue_delay_microsecond: 5}\n",
        ["dynamic_batching.max_queue_delay_microsecond", "max_queue_delay_microseconds"],
    ),
    "type": ("max_batch_size: many\n", ["max_batch_size"]),
    "range": ("max_batch_size: -1\n", ["max_batch_size"]),
    "twice": ("max_batch_size: 4\nmax_batch_size: 8\n", ["max_batch_size"]),
    "syntax": ("max_batch_size: [4\n", ["config.yaml"]),
    "list": ("- 1\n", ["config.yaml"]),
    "name": ("name: other\n", ["name", "'other'", "the model is named"]),
    "no_such_input": (
        "input: [{name: nope, data_type: TYPE_FP32, dims: [16]}]\n",
        ["the model has no 'nope'; it has: x"],
    ),
    "wrong_type": (
        "input: [{name: x, data_type: TYPE_INT8, dims: [16]}]\n",
        ["'x' is TYPE_INT8, but the model has TYPE_FP32"],
    ),
    "alias_bomb": (
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{(f'*{chr(97 + i)},' * 9)[:-1]}]\n"
                  for i in range(9)),
        ["config.yaml"],
    ),
}  # fmt: skip


def test_wrong_configuration_is_named_by_file_and_field(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "models"
    write_model(root, "mlp", mlp())
    for name, (text, _) in BAD_CONFIGS.items():
        write_model(root, name, mlp(), files={"config.yaml": text})
    server = serve(root)
    lines = index(server)
    for name, (_, phrases) in BAD_CONFIGS.items():
        reason = lines[name]["reason"]
        for phrase in phrases:
            assert phrase in reason, (name, reason)
        if name not in ("no_such_input", "wrong_type", "name"):
            assert str(root / name / "config.yaml") in reason, (name, reason)
        assert server.infer(name, GOOD_BODY).status == 503
    assert_serves(server)


@pytest.mark.parametrize(
    ("arguments", "phrases"),
    [
        ((), ["nothing to serve"]),
        (("/nowhere/at/all",), ["/nowhere/at/all", "does not exist"]),
        (("--http-max-input-size", "0", "."), ["http_max_input_size"]),
        (("--http-body-timeout-secs", "-1", "."), ["http_body_timeout_secs"]),
        (("--http-max-input-sise", "5", "."), ["--http-max-input-size"]),
    ],
    ids=["no path", "missing path", "zero", "negative", "misspelt"],
)
def test_wrong_command_line_ends_with_the_reason(
    arguments: tuple[str, ...], phrases: list[str]
) -> None:
    ended = run_serve(*arguments)
    assert ended.returncode != 0
    for phrase in phrases:
        assert phrase in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_unknown_field_of_the_server_is_named_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("http_prot: 9000\n")
    ended = run_serve("--config", file, tmp_path)
    assert ended.returncode != 0
    assert f"{file}: http_prot: unknown field, did you mean http_port?" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_port_that_is_taken_is_named(server: RunningServer, repository: Path) -> None:
    ended = subprocess.run(
        command("serve", repository / "mlp", "--http-port", str(server.port)),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert f"cannot listen on 127.0.0.1:{server.port}" in ended.stderr
    assert "Traceback" not in ended.stderr
