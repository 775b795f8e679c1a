"""The life of a server in this process, and of its models; many callers at once."""

import asyncio
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inferd
from embedded.conftest import held, let_go
from inferd.config.server import ServerConfig
from inferd.errors import (
    ConfigError,
    InferdError,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    Overloaded,
)
from lifecycle.onnx_models import STEPS_PER_MS, Repository, add_sub, work
from lifecycle.process import environment

ONE = {"INPUT0": np.zeros((1, 1), np.float32)}


def stats(model: Any) -> dict[str, Any]:
    (found,) = model.statistics()["model_stats"]
    return dict(found)


def test_requests_of_many_threads_share_batches(server: inferd.Server) -> None:
    model = server.model("busy")
    before = stats(model)
    rows = [np.full((1, 1), n, np.float32) for n in range(64)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda row: model.infer({"INPUT0": row})["OUTPUT0"], rows))
    np.testing.assert_array_equal(np.concatenate(answers), np.concatenate(rows))
    after = stats(model)
    assert after["inference_count"] - before["inference_count"] == 64
    assert after["execution_count"] - before["execution_count"] < 48


def test_a_model_is_loaded_told_of_and_unloaded(server: inferd.Server) -> None:
    model = server.model("later")
    with pytest.raises(ModelNotFound):
        model.infer(ONE)
    server.load("later", {"max_batch_size": 4})
    assert model.ready()
    assert model.config()["max_batch_size"] == 4
    assert model.metadata()["inputs"][0]["shape"] == [-1, 4]
    assert ("later", "1") in [(one.name, one.version) for one in server.models()]
    server.unload("later")
    assert not model.ready()
    (line,) = [line for line in server.index() if line["name"] == "later"]
    assert line["state"] in ("UNLOADING", "UNAVAILABLE")
    with pytest.raises(ModelNotFound, match="failed to load 'nope'"):
        server.load("nope")


def test_a_model_is_loaded_and_unloaded_beside_what_else_a_loop_does(server: inferd.Server) -> None:
    async def live() -> bool:
        loading = asyncio.gather(server.aload("later"), server.aload("later"))
        turns = 0
        while not loading.done():
            await asyncio.sleep(0)
            turns += 1
        await loading
        assert turns > 1
        ready = server.model("later").ready()
        await server.aunload("later")
        with pytest.raises(ModelNotFound, match="failed to load 'nope'"):
            await server.aload("nope")
        with pytest.raises(InvalidRequest, match="config is not JSON"):
            await server.aload("later", "{")
        left = asyncio.ensure_future(server.aload("later"))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        await server.aunload("later")  # behind the load, which goes on
        return ready and left.cancelled()

    assert asyncio.run(live())
    assert not server.model("later").ready()


def test_the_server_says_what_it_is_and_counts(server: inferd.Server) -> None:
    assert (server.live(), server.ready()) == (True, True)
    assert server.metadata()["name"] == "inferd"
    assert 'nv_inference_request_success{model="busy",version="1"}' in server.metrics()


# -- what it is told -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "options", "phrase"),
    [
        ((), {}, "nothing to serve"),
        (("m.onnx",), {"http_port": 1}, "http_port: a server within a process has no sockets"),
        (("m.onnx",), {"log_level": "debug"}, r"log_level.*getLogger"),
        (("m.onnx",), {"theads": 1}, "theads: unknown option, did you mean threads"),
        (("m.onnx",), {"threads": "two"}, "threads: expected"),
        ((3,), {}, "expected a path or a class, got 3"),
        (("/nowhere/m.onnx",), {}, "/nowhere/m.onnx"),
    ],
)
def test_wrong_options_are_said(paths: Any, options: Any, phrase: str) -> None:
    with pytest.raises(ConfigError, match=phrase):
        inferd.Server(*paths, **options)


def test_options_go_before_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(add_sub())
    config = ServerConfig(paths=(str(tmp_path / "m.onnx"),), model_control_mode="explicit")
    with inferd.Server(config=config, model_control_mode="none") as server:
        assert server.model("m").ready()


# -- the end -------------------------------------------------------------------------------------


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    repository = Repository(tmp_path / "repository")
    repository.add("busy", work(), config={"max_batch_size": 1})
    return repository.root


def test_a_close_finishes_what_is_in_flight_and_each_request_ends_once(busy: Path) -> None:
    server = inferd.Server(busy)
    model = server.model("busy")
    model.infer(ONE)
    long = {"INPUT0": np.full((1, 1), 50 * STEPS_PER_MS, np.float32)}
    ends: list[object] = []

    def ask() -> None:
        try:
            ends.append(model.infer(long)["OUTPUT0"][0, 0])
        except InferdError as error:
            ends.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    while stats(model)["inference_count"] < 2:
        pass
    server.close()
    for thread in threads:
        thread.join()
    assert len(ends) == 6
    refused = [end for end in ends if isinstance(end, InferdError)]
    assert len(refused) < 5
    assert all(isinstance(error, (ModelUnavailable, Overloaded)) for error in refused)
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="the server is closed"):
            model.infer(ONE)
    assert not server.live()
    server.close()


def test_what_takes_longer_than_the_exit_timeout_is_told(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    named = {"backend": "held", "default_model_filename": "model.onnx"}
    repository.add("slow", add_sub(), config={"max_batch_size": 8} | named)
    let_go.set()
    server = inferd.Server(repository.root, exit_timeout_secs=0.05)
    let_go.clear()
    held.clear()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(server.model("slow").infer, ONE)
        assert held.wait(20)
        server.close()
        with pytest.raises(ModelUnavailable, match="the server is closed"):
            asked.result(20)
    let_go.set()


class Interrupt(BaseException):
    """As of a key."""


@pytest.mark.parametrize("way", ["infer", "stream"])
def test_an_interrupted_wait_gives_the_request_up(tmp_path: Path, way: str) -> None:
    repository = Repository(tmp_path / "repository")
    named = {"backend": "held", "default_model_filename": "model.onnx"}
    repository.add("slow", add_sub(), config={"max_batch_size": 8} | named)

    def interrupt(*_: object) -> None:
        raise Interrupt

    def key(thread: int) -> None:
        assert held.wait(20)
        signal.pthread_kill(thread, signal.SIGUSR1)

    async def in_flight(core: Any) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return int(core.in_flight())

    let_go.set()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with inferd.Server(repository.root) as server, ThreadPoolExecutor(1) as threads:
            let_go.clear()
            held.clear()
            threads.submit(key, threading.get_ident())
            model = server.model("slow")
            ways = {"infer": lambda: model.infer(ONE), "stream": lambda: next(model.stream(ONE))}
            with pytest.raises(Interrupt):
                ways[way]()
            assert server._thread.call(in_flight) == 0
            let_go.set()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_loop_that_ends_unasked_leaves_nobody_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository = Repository(tmp_path / "repository")
    named = {"backend": "held", "default_model_filename": "model.onnx"}
    repository.add("slow", add_sub(), config={"max_batch_size": 8} | named)
    let_go.set()
    server = inferd.Server(repository.root)
    let_go.clear()
    held.clear()

    def end(core: object) -> None:
        raise SystemExit(3)

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(server.model("slow").infer, ONE)
        assert held.wait(20)
        with pytest.raises(ModelUnavailable, match="the server is closed"):
            server._thread.call(end)
        with pytest.raises(ModelUnavailable, match="the server is closed"):
            asked.result(20)
    let_go.set()
    assert not server.live()
    server.close()
    assert "the server's loop ended" in caplog.text


def test_one_that_is_forgotten_is_closed_with_a_warning(busy: Path) -> None:
    before = threading.enumerate()
    server = inferd.Server(busy)
    (thread,) = [one for one in threading.enumerate()
                 if one.name == "inferd" and one not in before]  # fmt: skip
    with pytest.warns(ResourceWarning, match="a server was not closed"):
        del server
    thread.join(20)
    assert not thread.is_alive()


ENDS = """
import os, sys, threading, numpy as np, inferd
server = inferd.Server(sys.argv[1])
model = server.model("busy")
one = {"INPUT0": np.zeros((1, 1), np.float32)}
model.infer(one)
pid = os.fork()
if not pid:
    try:
        model.infer(one)
    except inferd.errors.Unsupported as error:
        assert "forked" in str(error), error
        assert not server.live()
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
print("child", model.infer(one)["OUTPUT0"].shape, flush=True)
def late():
    threading.main_thread().join()
    print("late", model.infer(one)["OUTPUT0"].shape, flush=True)
threading.Thread(target=late).start()
"""


def test_a_fork_is_told_and_the_interpreter_ends_by_itself(busy: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENDS, str(busy)], env=environment(), timeout=60,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("\n") == ["child (1, 1)", "late (1, 1)", ""]
