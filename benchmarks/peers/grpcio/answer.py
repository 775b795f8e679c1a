"""What both echo servers answer: the tensor that they were sent, without reading the message.

A request ends with its one raw tensor of 64 bytes, and so does the answer; what stands before it
never changes, and is told.
"""

import os

SERVICE = "inference.GRPCInferenceService"
METHOD = "ModelInfer"
TENSOR_BYTES = 64

ADDRESS = f"127.0.0.1:{os.environ['BENCH_GRPC_PORT']}"
HEAD = bytes.fromhex(os.environ["BENCH_ANSWER_HEAD"])


def answer(request: bytes) -> bytes:
    """The answer to a request, both as they are on the wire."""
    return HEAD + request[-TENSOR_BYTES:]
