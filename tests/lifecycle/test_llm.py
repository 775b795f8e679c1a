"""A language model's life in a real server: start, trouble, stop."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lifecycle.process import ServerProcess, wait_until
from tiny_llama import write_tiny_llama

Start = Callable[..., ServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(*arguments: str | Path) -> ServerProcess:
            process = ServerProcess(tmp_path / "server.log", *arguments, "--no-packed-cache")
            stack.callback(process.stop)
            return process

        yield started


def test_a_stream_that_runs_is_finished_before_the_server_stops(
    start: Start, tmp_path: Path
) -> None:
    server = start(write_tiny_llama(tmp_path / "tiny")).wait_ready()
    body = json.dumps(
        {"prompt": "Hello", "stream": True, "max_tokens": 200, "ignore_eos": True}
    ).encode()
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        content = client.recv(1 << 16)
        server.terminate()
        while piece := client.recv(1 << 16):
            content += piece
    assert content.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b'"finish_reason":"length"' in content
    assert server.wait() == 0
    assert "Traceback" not in server.log_text()


def test_a_model_that_cannot_be_loaded_leaves_its_neighbour_serving(
    start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    write_tiny_llama(folder / "good")
    bad = write_tiny_llama(folder / "bad")
    config = (bad / "config.json").read_text()
    (bad / "config.json").write_text(config.replace("LlamaForCausalLM", "MambaForCausalLM"))
    server = start(folder, "--no-strict-readiness").wait_ready()
    answer = server.request(
        "POST", "/v1/completions", {"model": "good", "prompt": "x", "max_tokens": 1},
        {"content-type": "application/json"},
    )  # fmt: skip
    assert answer.status == 200
    line = server.index()["bad", "1"]
    assert line["state"] == "UNAVAILABLE"
    assert "MambaForCausalLM" in line["reason"]
    assert "LlamaForCausalLM" in line["reason"]
    answer = server.request(
        "POST", "/v1/completions", {"model": "bad", "prompt": "x"},
        {"content-type": "application/json"},
    )  # fmt: skip
    assert answer.status == 503
    assert "MambaForCausalLM" in answer.json()["error"]["message"]


def test_options_come_from_the_command_line_and_are_said(start: Start, tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "tiny")
    server = start(folder, "--max-model-len", "48", "--kv-cache-dtype", "float32").wait_ready()
    (card,) = server.get("/v1/models").json()["data"]
    assert card["max_model_len"] == 48
    wait_until(lambda: "curl -sN" in server.log_text(), "the banner")
    assert "/v1/chat/completions" in server.log_text()


def test_one_that_cannot_be_served_ends_the_server_that_wants_it(
    start: Start, tmp_path: Path
) -> None:
    folder = write_tiny_llama(tmp_path / "tiny")
    (folder / "tokenizer.json").unlink()
    server = start(folder)
    assert server.wait() == 2
    assert "tokenizer.json" in server.log_text()
    assert "Traceback" not in server.log_text()
