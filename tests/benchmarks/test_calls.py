"""The check of answers over gRPC, against a server that gives other ones."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from benchmarks.calls import (
    INFER,
    answer_head,
    check_calls,
    check_first,
    read_answer,
    request,
)
from benchmarks.client import Mismatch
from benchmarks.processes import free_ports
from benchmarks.servers import SERVERS
from benchmarks.workloads import GRPC_MLP, Task
from tritonclient.grpc import service_pb2

ROWS = GRPC_MLP.rows().astype("<f4")
HEAD = answer_head(GRPC_MLP)


@contextmanager
def answering(answer: Callable[[bytes], bytes | None], port: int = 0) -> Iterator[int]:
    """A server on a port; it refuses what has no answer."""

    def infer(message: bytes, context: grpc.ServicerContext) -> bytes:
        found = answer(message)
        if found is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        return found

    _, service, method = INFER.split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(infer)}
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(GRPC_MLP, tmp_path)


def test_a_request_ends_with_the_bytes_of_its_row() -> None:
    message = request(GRPC_MLP, ROWS[3])
    assert message.endswith(ROWS[3].tobytes())
    parsed = service_pb2.ModelInferRequest.FromString(message)
    assert parsed.model_name == "grpc-mlp"
    assert [(i.name, i.datatype, list(i.shape)) for i in parsed.inputs] == [("x", "FP32", [1, 16])]


def test_answers_are_read_raw_and_typed() -> None:
    assert np.array_equal(read_answer(HEAD + ROWS[1].tobytes()), ROWS[1])
    typed = service_pb2.ModelInferResponse()
    typed.outputs.add(name="y", datatype="FP32").contents.fp32_contents.extend(ROWS[2])
    assert np.array_equal(read_answer(typed.SerializeToString()), ROWS[2])


def test_every_row_is_to_come_back(task: Task) -> None:
    right = SERVERS["grpcio-threads"].right(task)
    with answering(lambda message: HEAD + message[-64:]) as port:
        assert check_calls(port, task, right) < 1e-6


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda message: HEAD + ROWS[0].tobytes(), "wrong answer"),
        (lambda message: answer_head(GRPC_MLP)[:-2], "an answer of 0 numbers for 16"),
        (lambda message: b"", "without outputs"),
        (lambda message: b"\xff", "unreadable answer"),
        (lambda message: None, "UNAVAILABLE: full"),
    ],
)
def test_another_answer_is_told(
    task: Task, answer: Callable[[bytes], bytes | None], told: str
) -> None:
    right = SERVERS["grpcio-aio"].right(task)
    with answering(answer) as port, pytest.raises(Mismatch, match=told):
        check_calls(port, task, right)


def test_a_server_that_comes_late_is_found_at_once(task: Task) -> None:
    right = SERVERS["triton"].right(task)
    (port,) = free_ports(1)
    with pytest.raises(Mismatch, match="UNAVAILABLE"):
        check_first(port, task, right)
    with answering(lambda message: HEAD + message[-64:], port):
        assert check_first(port, task, right) < 1e-6
