"""gRPC when things go wrong: clients that vanish, that cancel, that read slowly, and servers that
stop while they are asked."""

import queue
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from inferd.protocols.grpc.framing import framed
from inferd.protocols.http2.frames import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    SETTINGS,
    frame,
    rst_stream,
    settings,
)
from protocols.http2.client import request

from .onnx_models import STEPS_PER_MS, Repository, identity, work
from .process import ServerProcess, free_port, resident_mb, wait_until
from .traffic import metrics

LONG_MS = 700
"""A run that a test can look at. Nothing interrupts a framework's run, here as over HTTP: its
request is gone at once, its instance is free when it ends."""

MODELS = """
from collections.abc import AsyncIterator

import numpy as np
import numpy.typing as npt

import inferd


class Large(inferd.Model, max_concurrency=256):
    async def predict(self, count: int, size: int) -> AsyncIterator[npt.NDArray[np.uint8]]:
        for number in range(count):
            yield np.full(size, number % 256, np.uint8)
"""


class GrpcServer:
    """A server process, and where its gRPC is."""

    def __init__(self, folder: Path, *paths: Path) -> None:
        self.port = free_port()
        self.process = ServerProcess(folder / "server.log", *paths, "--grpc-port", str(self.port))
        self.pid = self.process.process.pid
        self.address = f"127.0.0.1:{self.port}"

    def connections(self) -> int:
        """Sockets of clients that the server has."""
        found = psutil.Process(self.pid).net_connections("tcp")
        return sum(one.laddr.port == self.port and one.status != psutil.CONN_LISTEN
                   for one in found)  # fmt: skip

    def depths(self, model: str = "m") -> tuple[float, float]:
        """Requests in flight, and those of them that wait."""
        values = metrics(self.process)
        labels = f'{{model="{model}",version="1"}}'
        return (
            values["inferd_in_flight" + labels],
            values["nv_inference_pending_request_count" + labels],
        )

    def until_depths(self, in_flight: int, waiting: int, model: str = "m") -> None:
        wait_until(lambda: self.depths(model) == (in_flight, waiting),
                   f"{in_flight} in flight, {waiting} of them waiting", 10)  # fmt: skip

    def until_free(self, model: str = "m") -> None:
        """No request and no connection is left."""
        self.until_depths(0, 0, model)
        wait_until(lambda: self.connections() == 0, "no connections", 10)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcServer]:
    """Model `m` takes the time it is told, `same` gives back what it gets, `Large` streams."""
    folder = tmp_path_factory.mktemp("grpc")
    repository = Repository(folder / "repository")
    repository.add("m", work(), config={"max_batch_size": 0})
    repository.add("same", identity("FP32", ("n", 4)), config={"max_batch_size": 0})
    models = folder / "models.py"
    models.write_text(MODELS)
    made = GrpcServer(folder, repository.root, models)
    try:
        made.process.wait_ready()
        yield made
    finally:
        status = made.process.stop()
    assert status == 0
    assert "never retrieved" not in made.process.log_text()
    assert "Traceback" not in made.process.log_text()


def infer_request(model: str, **inputs: "np.ndarray[Any, Any]") -> Any:
    wire = service_pb2.ModelInferRequest(model_name=model)
    names = {"float32": "FP32", "int64": "INT64"}
    for name, array in inputs.items():
        wire.inputs.add(name=name, datatype=names[str(array.dtype)], shape=array.shape)
        wire.raw_input_contents.append(array.tobytes())
    return wire


def takes(milliseconds: float) -> Any:
    steps = milliseconds * STEPS_PER_MS
    return infer_request("m", INPUT0=np.array([[steps]], np.float32))


def large(count: int, size: int) -> Any:
    return infer_request("Large", count=np.array([count]), size=np.array([size]))


def stub(channel: Any) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


# -- clients that vanish ---------------------------------------------------------------------------


def head(method: str) -> bytes:
    block = request(_path=f"/inference.GRPCInferenceService/{method}".encode())
    return frame(HEADERS, END_HEADERS, 1, block)


def message(wire: Any) -> bytes:
    return framed(wire.SerializeToString())


BEGIN = PREFACE + settings({}) + frame(SETTINGS, ACK, 0)
READS_NOTHING = PREFACE + settings({INITIAL_WINDOW_SIZE: 0}) + frame(SETTINGS, ACK, 0)
LONG = message(takes(LONG_MS))
ROWS = message(infer_request("same", INPUT0=np.zeros((20_000, 4), np.float32)))
INFER, STREAM = BEGIN + head("ModelInfer"), BEGIN + head("ModelStreamInfer")


def data(payload: bytes, flags: int = 0) -> bytes:
    pieces = [payload[at : at + 16_000] for at in range(0, len(payload), 16_000)]
    return b"".join(frame(DATA, 0, 1, piece) for piece in pieces) + frame(DATA, flags, 1, b"")


IDLE_STATES = {
    "nothing sent": b"",
    "half a preface": PREFACE[:9],
    "no SETTINGS": PREFACE,
    "no call": BEGIN,
    "half a head": INFER[:-20],
    "a head": INFER,
    "half a prefix": INFER + data(LONG[:3]),
    "half a small message": INFER + data(LONG[:-3]),
    "half a large message": INFER + data(ROWS[:-3]),
    "half a frame": INFER + data(ROWS)[:5000],
    "a message without its end": INFER + data(LONG),
    "an answer that waits": READS_NOTHING + head("ModelInfer") + data(ROWS, END_STREAM),
    "an answer in a full socket": INFER + data(ROWS, END_STREAM),
    "a wrong message that takes long to read, taken back":
        INFER + data(framed(b"?" * 3_000_000), END_STREAM) + rst_stream(1, CANCEL),
    "an error": INFER + data(b"\0\0\0\0\1?", END_STREAM),
    "a stream's head": STREAM,
    "a stream with half a message": STREAM + data(LONG[:-3]),
    "a stream with answers that wait": READS_NOTHING + head("ModelStreamInfer") + data(ROWS * 3),
    "a stream that ends with answers that wait":
        READS_NOTHING + head("ModelStreamInfer") + data(ROWS * 3, END_STREAM),
    "a model's stream that waits":
        READS_NOTHING + head("ModelStreamInfer") + data(message(large(1000, 100_000))),
}  # fmt: skip

RUNNING_STATES = {
    "a call that runs": (INFER + data(LONG, END_STREAM), (1, 0)),
    "a stream whose request runs": (STREAM + data(LONG), (1, 0)),
    "a stream whose requests run and wait": (STREAM + data(LONG * 3), (3, 2)),
    "a half-closed stream whose requests run": (STREAM + data(LONG * 3, END_STREAM), (3, 2)),
}


def vanish(connection: socket.socket, way: str) -> None:
    if way == "reset":
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


@pytest.mark.parametrize("way", ["closed", "reset"])
def test_clients_that_vanish_leave_nothing(server: GrpcServer, way: str) -> None:
    connections = []
    with ExitStack() as stack:
        for sent in IDLE_STATES.values():
            for _ in range(3):
                connection = socket.create_connection(("127.0.0.1", server.port), 5)
                connections.append(stack.enter_context(connection))
                connection.sendall(sent)
        wait_until(lambda: server.connections() == len(connections), "all are accepted", 5)
        wait_until(lambda: server.depths("Large")[0] == 3, "streams have begun", 5)
        for connection in connections:
            vanish(connection, way)
    for model in ("m", "same", "Large"):
        server.until_free(model)


@pytest.mark.parametrize("way", ["closed", "reset"])
@pytest.mark.parametrize(("sent", "depths"), RUNNING_STATES.values(), ids=RUNNING_STATES)
def test_clients_that_vanish_cancel_what_runs(
    server: GrpcServer, sent: bytes, depths: tuple[int, int], way: str
) -> None:
    connection = socket.create_connection(("127.0.0.1", server.port), 5)
    connection.sendall(sent)
    server.until_depths(*depths)
    vanish(connection, way)
    server.until_free()
    with grpc.insecure_channel(server.address) as channel:
        stub(channel).ModelInfer(takes(1), timeout=10)


# -- clients that cancel ---------------------------------------------------------------------------


def test_a_call_that_is_cancelled_frees_its_place_in_the_queue(server: GrpcServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        ask = stub(channel).ModelInfer
        running = ask.future(takes(LONG_MS))
        server.until_depths(1, 0)
        waiting = [ask.future(takes(1)) for _ in range(6)]
        server.until_depths(7, 6)
        for call in waiting[::2]:
            call.cancel()
        server.until_depths(4, 3)
        running.cancel()
        for call in waiting[1::2]:
            assert call.result(10)
    server.until_free()


def test_a_deadline_frees_a_place_and_ends_what_runs(server: GrpcServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        ask = stub(channel).ModelInfer
        running = ask.future(takes(LONG_MS), timeout=0.4)
        server.until_depths(1, 0)
        waiting = ask.future(takes(1), timeout=0.1)
        assert waiting.exception(5).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        server.until_depths(1, 0)
        assert running.exception(5).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert ask(takes(1), timeout=10)


class Streaming:
    """A ModelStreamInfer whose requests are sent one by one."""

    def __init__(self, channel: Any) -> None:
        self._sent: queue.Queue[Any] = queue.Queue()
        self.call = stub(channel).ModelStreamInfer(iter(self._sent.get, None))

    def send(self, *requests: Any) -> None:
        for wire in requests:
            self._sent.put(wire)

    def half_close(self) -> None:
        self._sent.put(None)


def test_a_stream_that_is_cancelled_frees_its_places(server: GrpcServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stream = Streaming(channel)
        stream.send(takes(LONG_MS), takes(1), takes(1))
        server.until_depths(3, 2)
        stream.call.cancel()
        server.until_depths(0, 0)
        stream.half_close()


def test_a_half_closed_stream_gets_all_its_answers(server: GrpcServer) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stream = Streaming(channel)
        stream.send(takes(300), takes(1), large(3, 10), takes(2))
        stream.half_close()
        answers = list(stream.call)
        assert [answer.error_message for answer in answers] == [""] * 6
        names = Counter(answer.infer_response.model_name for answer in answers)
        assert names == {"m": 3, "Large": 3}
    server.until_free()


# -- clients that read slowly ----------------------------------------------------------------------

STREAMS, ANSWER_BYTES = 200, 256 * 1024
HELD = 12
"""How many such answers a stream that is not read may hold: six that its worker may send ahead, two
that wait, one that is to wait, one that is being written, and what windows and buffers take."""


@pytest.mark.slow
def test_answers_that_nobody_reads_take_bounded_memory(server: GrpcServer) -> None:
    """200 streams of a model that has a hundred large answers for each."""
    with ExitStack() as stack:
        ask = stub(stack.enter_context(grpc.insecure_channel(server.address))).ModelInfer
        ask(takes(1))
        before_mb = resident_mb(server.pid)
        streams = []
        for _ in range(10):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = stack.enter_context(grpc.insecure_channel(server.address, options))
            for _ in range(STREAMS // 10):
                stream = Streaming(channel)
                stream.send(large(100, ANSWER_BYTES))
                streams.append(stream)
        wait_until(lambda: server.depths("Large")[0] == STREAMS, "all streams have begun", 20)
        waits: list[float] = []
        grown_mb, still_s = 0.0, time.monotonic()
        while time.monotonic() - still_s < 2:  # so long it has not grown
            start_s = time.perf_counter()
            ask(takes(0), timeout=10)
            waits.append(time.perf_counter() - start_s)
            now_mb = resident_mb(server.pid) - before_mb
            if now_mb > grown_mb + 1:
                grown_mb, still_s = now_mb, time.monotonic()
        print(f"{grown_mb:.0f} MB more, {1e3 * float(np.median(waits)):.1f} ms a call beside")
        for stream in streams:
            stream.call.cancel()
            stream.half_close()
    server.until_free("Large")
    assert grown_mb < STREAMS * HELD * ANSWER_BYTES / 2**20
    assert np.median(waits) < 0.1


# -- servers that stop -----------------------------------------------------------------------------


@pytest.fixture
def leaving(tmp_path: Path) -> Iterator[GrpcServer]:
    """A server that the test stops."""
    repository = Repository(tmp_path / "repository")
    repository.add("m", work(), config={"max_batch_size": 0})
    made = GrpcServer(tmp_path, repository.root)
    made.process.wait_ready()
    yield made
    made.process.stop()


class Load:
    """Stock clients that ask again and again until there is no server any more."""

    def __init__(self, address: str, channels: int, threads: int) -> None:
        self.answered = 0
        self.failed: list[tuple[grpc.StatusCode, str]] = []
        """Calls that were sent, or might have been."""
        self._stack = ExitStack()
        self._threads = []
        for _ in range(channels):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = self._stack.enter_context(grpc.insecure_channel(address, options))
            for _ in range(threads):
                self._threads.append(threading.Thread(target=self._ask, args=(stub(channel),)))
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.answered > 10 * len(self._threads), "calls are answered")

    def _ask(self, made: Any) -> None:
        while True:
            try:
                made.ModelInfer(takes(0.1), timeout=20)
            except grpc.RpcError as error:
                if "Connection refused" in error.details():
                    return
                self.failed.append((error.code(), error.details()))
            else:
                self.answered += 1

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        self._stack.close()


def test_sigterm_under_load_loses_no_call(leaving: GrpcServer) -> None:
    load = Load(leaving.address, channels=6, threads=4)
    leaving.process.terminate()
    assert leaving.process.wait(10) == 0
    load.wait()
    print(f"{load.answered} answered")
    assert load.failed == []


def test_sigterm_waits_for_what_streams_have_sent(leaving: GrpcServer) -> None:
    """And for nothing else: streams that their clients leave open are ended."""
    with grpc.insecure_channel(leaving.address) as channel:
        idle, busy = Streaming(channel), Streaming(channel)
        idle.send(takes(1))
        assert next(idle.call).error_message == ""
        busy.send(takes(600), takes(1))
        leaving.until_depths(2, 1)
        leaving.process.terminate()
        assert [next(busy.call).error_message for _ in range(2)] == ["", ""]
        for stream in (idle, busy):
            with pytest.raises(grpc.RpcError) as error:
                next(stream.call)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in error.value.details()
            stream.half_close()
        assert leaving.process.wait(10) == 0
