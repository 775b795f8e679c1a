"""A language model's life in a real server: start, trouble, stop."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from lifecycle.process import ServerProcess, wait_until
from tiny_llama import write_tiny_llama

Start = Callable[..., ServerProcess]


LONG = {"prompt": "Hello", "stream": True, "max_tokens": 200, "ignore_eos": True}


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
    content = _streamed(server, LONG, server.terminate)
    assert content.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b'"finish_reason":"length"' in content
    assert server.wait() == 0
    assert "Traceback" not in server.log_text()


def _streamed(server: ServerProcess, asked: dict[str, object], then: Callable[[], None]) -> bytes:
    """A whole stream; `then` happens when it has begun."""
    body = json.dumps(asked).encode()
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: h\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        content = client.recv(1 << 16)
        then()
        while piece := client.recv(1 << 16):
            content += piece
    return content


def _child(server: ServerProcess) -> psutil.Process:
    """The process of the server's engine."""
    (child,) = psutil.Process(server.process.pid).children()
    return child


def test_an_engine_in_a_process_may_be_killed_and_not_the_server(
    start: Start, tmp_path: Path
) -> None:
    server = start(write_tiny_llama(tmp_path / "tiny"), "--isolation", "process").wait_ready()
    child = _child(server)
    # More than can be said before it is killed.
    content = _streamed(server, LONG | {"n": 32}, child.kill)
    assert content.startswith(b"HTTP/1.1 200 ")
    assert content.count(b'"engine_dead"') == 1
    assert not server.ready()
    answer = server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})
    assert (answer.status, answer.json()["error"]["code"]) == (503, "engine_dead")
    assert server.index()["tiny", "1"]["state"] == "UNAVAILABLE"
    server.wait_ready()
    answer = server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})
    assert answer.status == 200
    assert "vllm:prefix_cache_queries_total" in server.get("/metrics").body.decode()

    successor = _child(server)
    assert successor.pid != child.pid

    def terminate() -> None:  # as all of a group are told at once
        successor.terminate()
        server.terminate()

    content = _streamed(server, LONG, terminate)
    assert content.count(b'"finish_reason":"length"') == 1
    assert server.wait() == 0
    assert not psutil.pid_exists(successor.pid)
    assert "killed by SIGKILL" in server.log_text()
    assert "Traceback" not in server.log_text()


def test_an_engine_in_a_process_does_not_outlive_its_server(start: Start, tmp_path: Path) -> None:
    server = start(write_tiny_llama(tmp_path / "tiny"), "--isolation", "process").wait_ready()
    child = _child(server)
    server.process.kill()
    assert child.wait(20) is None  # not ours to reap


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
