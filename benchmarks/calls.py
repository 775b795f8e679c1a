"""Inference over gRPC: a row's request as a message, what an answer holds, and a client that checks
it. It refuses to know how servers are loaded."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from benchmarks.client import Mismatch, how_far_off
from benchmarks.wires import FLOATS, Answer, Row, tensor
from benchmarks.workloads import Task, Workload

INFER = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Otherwise channels of one process share a connection.
    ("grpc.use_local_subchannel_pool", 1),
)


def request(workload: Workload, row: Row) -> bytes:
    """A row's ModelInferRequest, its floats raw."""
    described = service_pb2.ModelInferRequest.InferInputTensor(**tensor(workload, row))
    message = service_pb2.ModelInferRequest(
        model_name=workload.name,
        inputs=[described],
        raw_input_contents=[row.astype(FLOATS[workload.datatype]).tobytes()],
    )
    return bytes(message.SerializeToString())


def answer_head(workload: Workload) -> bytes:
    """A ModelInferResponse of one row as wide as the request's, but for the bytes of its tensor,
    which stand last."""
    row = np.zeros(workload.width)
    described = service_pb2.ModelInferResponse.InferOutputTensor(**tensor(workload, row))
    raw = row.astype(FLOATS[workload.datatype]).tobytes()
    message = service_pb2.ModelInferResponse(
        model_name=workload.name, outputs=[described], raw_output_contents=[raw]
    )
    return bytes(message.SerializeToString())[: -len(raw)]


def read_answer(message: bytes) -> Answer:
    """The first output of a ModelInferResponse; raises ValueError where there is none."""
    response = service_pb2.ModelInferResponse.FromString(message)
    if not response.outputs:
        raise ValueError("an answer without outputs")
    described = response.outputs[0]
    if response.raw_output_contents:
        raw = response.raw_output_contents[0]
        return np.frombuffer(raw, dtype=FLOATS[described.datatype])
    return np.asarray(described.contents.fp32_contents, dtype=np.float32)


@contextmanager
def connected(port: int) -> Iterator[grpc.UnaryUnaryMultiCallable]:
    """ModelInfer on a connection of its own, bytes in and bytes out."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        yield channel.unary_unary(INFER)


def check_call(
    call: grpc.UnaryUnaryMultiCallable,
    task: Task,
    right: Row,
    sample: int,
    timeout: float = 60.0,
) -> float:
    """Asks for one of the workload's rows and raises unless its answer is right; gives how far it
    is off, as a part of the largest value."""
    workload = task.workload
    try:
        found = read_answer(call(request(workload, workload.rows()[sample]), timeout=timeout))
    except grpc.RpcError as error:
        raise Mismatch(f"{error.code()}: {error.details()}") from error
    except (DecodeError, ValueError, LookupError) as error:
        raise Mismatch(f"unreadable answer: {error!r}") from error
    return how_far_off(found, right[sample], workload.tolerance)


def check_first(port: int, task: Task, right: Row) -> float:
    """Asks for one row on a new connection: an old one that failed would wait before the next
    try."""
    with connected(port) as call:
        return check_call(call, task, right, sample=0, timeout=10.0)


def check_calls(port: int, task: Task, right: Row) -> float:
    """Sends all different rows together: each must get its own answer back; gives how far the
    worst is off."""
    with connected(port) as call, ThreadPoolExecutor(len(right)) as pool:
        found = pool.map(lambda sample: check_call(call, task, right, sample), range(len(right)))
        return max(found)
