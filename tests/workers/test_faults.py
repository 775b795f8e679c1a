"""What models do to their processes, through a real server: it costs the request that did it."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from websockets.sync.client import connect

from inferd import testing
from inferd.testing import ServerFailed, TestServer
from workers import faulty_models as models


@pytest.fixture(scope="module")
def server() -> Iterator[TestServer]:
    with testing.serve(
        models.Faulty, models.Batched, models.Misshapen, models.Keeper, models.Slow,
        models.Counter, models.Together, models.Remembers, models.Asks,
    ) as server:  # fmt: skip
        yield server


def fails(server: TestServer, model: str = "Faulty", **arguments: Any) -> str:
    with pytest.raises(ServerFailed) as failure:
        server.predict(model, **arguments)
    assert failure.value.status in (400, 500, 503, 504), failure.value
    return str(failure.value)


def works(server: TestServer) -> None:
    assert server.predict("Faulty", what="fine").startswith("fine in ")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("exit", "ended: exit status 3"),
        ("segfault", "killed by SIGSEGV"),
        ("abort", "killed by SIGABRT"),
        ("hang", "did not answer within 3 s"),
        ("hoard", "MB of memory, its memory_limit_mb is 400"),
        ("fork", "ended: exit status 5"),
    ],
)
def test_what_ends_a_worker_costs_its_own_request(
    server: TestServer, what: str, words: str
) -> None:
    works(server)
    assert words in fails(server, what=what)
    works(server)


def test_a_request_that_ends_two_workers_is_refused(server: TestServer) -> None:
    """Another text than above: only the same request is refused."""
    said = [fails(server, what="exit", seconds=1.0) for _ in range(3)]
    assert "ended: exit status 3" in said[0]
    assert "refused" not in said[0]
    assert "is refused from now on" in said[1]
    assert said[2].startswith("400")
    assert "has ended two workers" in said[2]
    works(server)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("raise", "ValueError: no such thing"),
        ("sys.exit", "SystemExit: 4"),
        ("half", r"ValueError: half a pair: \\udc80"),
        ("wrong type", "expected"),
    ],
)
def test_what_a_model_raises_leaves_its_worker_as_it_is(
    server: TestServer, what: str, words: str
) -> None:
    before = server.predict("Faulty", what="fine")
    assert words in fails(server, what=what)
    assert server.predict("Faulty", what="fine") == before


def test_threads_that_a_model_leaves_behind_hold_nobody_up(server: TestServer) -> None:
    assert server.predict("Faulty", what="threads").startswith("threads")
    works(server)


def test_what_a_model_prints_is_in_the_log_under_its_name(server: TestServer) -> None:
    server.predict("Faulty", what="print")
    server.predict("Faulty", what="print")  # by its answer, the first one's lines are there
    for line in ("printed by the model: 100%s", "written by C code"):
        assert any(told.endswith(f"INFO inferd.model.Faulty {line}") for told in server.log), line


def test_neighbours_in_a_batch_get_their_answers(server: TestServer) -> None:
    def ask(number: int) -> Any:
        try:
            return server.predict("Batched", x=[number, number])
        except ServerFailed as error:
            return str(error)

    with ThreadPoolExecutor(8) as threads:
        crashed = list(threads.map(ask, (1, 2, 13, 3, 4, 5)))
        raised = list(threads.map(ask, (1, 2, 14, 3, 4, 5)))
    for answers, words in ((crashed, "exit status 13"), (raised, "ValueError: fourteen")):
        assert [a for a in answers if isinstance(a, list)] == [
            [2, 2],
            [4, 4],
            [6, 6],
            [8, 8],
            [10, 10],
        ]
        assert words in answers[2]


@pytest.mark.parametrize("number", [1, 2])
def test_a_result_of_a_wrong_shape_is_the_models_fault(server: TestServer, number: int) -> None:
    assert "expected" in fails(server, "Misshapen", x=[number, 0])
    assert server.predict("Misshapen", x=[3, 0]) == [3, 0]


def test_memory_that_a_model_keeps_is_not_used_again(server: TestServer) -> None:
    """Also where what comes behind it in the same batch needs a larger mapping."""
    more = [0] * 300_000
    first = server.predict("Keeper", x=[1] * 40_000, more=more)
    for number in (2, 3, 4):
        assert server.predict("Keeper", x=[number] * 40_000, more=more) == first


def test_a_stream_comes_part_by_part_and_its_error_after_them(server: TestServer) -> None:
    assert list(server.stream("Counter", to=100)) == list(range(100))
    parts = server.stream("Counter", to=5, fail_at=2)
    assert [next(parts), next(parts)] == [0, 1]
    with pytest.raises(ServerFailed, match="ValueError: at 2"):
        next(parts)


def test_a_stream_that_nobody_reads_waits_and_one_that_is_left_is_closed(
    server: TestServer, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    url = server.url.replace("http", "ws") + "/ws/models/Slow"
    with connect(url, close_timeout=0.2) as socket:  # what it has not read keeps it from closing
        socket.send(json.dumps({"id": 1, "inputs": {"to": 10**9, "mark": str(mark)}}))
        assert json.loads(socket.recv()) == {"id": 1, "outputs": 0}
    until(lambda: mark.exists() and mark.read_text() == "closed")


def test_calls_of_an_asynchronous_model_meet_and_a_late_one_is_cancelled(
    server: TestServer,
) -> None:
    assert "did not answer within 1 s" in fails(server, "Together", wanted=50)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: server.predict("Together", wanted=5), range(4)))
    assert answers == [5] * 4


def test_a_crash_of_an_asynchronous_model_costs_only_its_own_request(server: TestServer) -> None:
    def ask(wanted: int) -> Any:
        try:
            return server.predict("Together", wanted=wanted)
        except ServerFailed as error:
            return str(error)

    with ThreadPoolExecutor(4) as threads:
        *well, crashed = threads.map(ask, (1, 1, 1, 13))
    assert all(isinstance(answer, int) for answer in well)
    assert "exit status 13" in crashed


def test_a_session_stays_where_its_state_is(server: TestServer) -> None:
    url = server.url.replace("http", "ws") + "/ws/models/Remembers"
    pids = set()
    with connect(url) as socket:
        for session in map(str, range(8)):
            for number in (1, 2, 3):
                request = {"id": number, "inputs": {"number": number}, "session": session}
                socket.send(json.dumps(request))
                *seen, pid = json.loads(socket.recv())["outputs"]
                assert seen == list(range(1, number + 1))
                pids.add(pid)
    assert len(pids) == 2


def test_models_ask_each_other(server: TestServer) -> None:
    assert server.predict("Asks", number=3) == [0.0, 2.0, 4.0]


def test_a_stopped_server_leaves_no_process() -> None:
    with testing.serve(models.Faulty, models.Remembers) as server:
        children = psutil.Process(server._process.pid).children(recursive=True)
        assert len(children) == 3
    assert not [child for child in children if child.is_running()]


def test_a_killed_server_takes_its_workers_with_it() -> None:
    with testing.serve(models.Faulty) as server:
        (child,) = psutil.Process(server._process.pid).children()
        with ThreadPoolExecutor(1) as threads:
            hanging = threads.submit(fails, server, what="hang")
            server._process.kill()
            with pytest.raises(OSError, match=r"^"):  # the connection ends, in whatever way
                hanging.result()
        psutil.wait_procs([child], timeout=20)
        assert not child.is_running()


def until(holds: Any, seconds: float = 20.0) -> None:
    """Wait for what another process will do."""
    wait = threading.Event()
    for _ in range(int(seconds * 50)):
        if holds():
            return
        wait.wait(0.02)
    raise AssertionError(f"after {seconds} s it still does not hold")


def test_a_saved_file_is_served_and_one_with_a_mistake_is_not(tmp_path: Path) -> None:
    source = "import inferd\n\nclass Twice(inferd.Model):\n    def predict(self, x: int) -> int:\n"
    file = tmp_path / "app.py"
    file.write_text(source + "        return x * 2\n")
    with testing.serve(f"{file}:Twice", options=("--reload",)) as server:
        assert server.predict("Twice", x=4) == 8
        for mistake in ("        return x *\n", "        return x * 3\nraise ValueError('late')\n"):
            told = len(server.log)
            file.write_text(source + mistake)
            until(lambda told=told: any(file.name in line for line in server.log[told:]))
            assert server.predict("Twice", x=4) == 8
        file.write_text(source + "        return x * 3\n")
        until(lambda: server.predict("Twice", x=4) == 12)


def test_a_model_explains_by_asking_for_a_stream(server: TestServer) -> None:
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=20)) as connection:
        json_kind = {"content-type": "application/json"}
        connection.request("POST", "/models/Asks/explain", '{"to": 4}', json_kind)
        with connection.getresponse() as response:
            assert (response.status, json.loads(response.read())) == (200, [0, 1, 2, 3])
        connection.request("POST", "/models/Counter/explain", '{"to": 4}', json_kind)
        with connection.getresponse() as response:
            assert response.status == 501
            assert "no method 'explain'" in json.loads(response.read())["error"]


def test_a_model_that_cannot_be_kept_alive_is_unready_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    monkeypatch.setenv("DYING_MARK", str(mark))
    with testing.serve(models.Dying) as server:

        def ready() -> bool:
            with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=20)) as connection:
                connection.request("GET", "/v2/health/ready")
                with connection.getresponse() as response:
                    return response.status == 200

        assert ready()
        assert server.predict() == "lives"
        mark.touch()
        (child,) = psutil.Process(server._process.pid).children()
        child.kill()
        until(lambda: not ready())
        until(lambda: "no worker can be kept alive" in outcome(server), 30)
        mark.unlink()
        until(lambda: outcome(server) == "lives", 60)
        assert ready()


def outcome(server: TestServer) -> str:
    try:
        return str(server.predict())
    except ServerFailed as error:
        return str(error)


def test_a_model_that_does_not_load_is_told_of_at_the_start() -> None:
    failing = pytest.raises(ServerFailed, match="RuntimeError: the weights are not here")
    with failing, testing.serve(models.Unloadable):
        pass
    with testing.serve(models.Counter, models.Unloadable) as server:
        assert list(server.stream(to=2)) == [0, 1]
        assert any("the weights are not here" in line for line in server.log)
