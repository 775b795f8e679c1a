"""Bad input over gRPC to a real server: each has its status and words, and the next is answered."""

import gzip
import socket
import zlib
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import StatusCode
from hpack import Decoder
from tritonclient.grpc import service_pb2, service_pb2_grpc

from e2e.harness import RunningServer
from inferd.protocols.grpc.framing import framed
from inferd.protocols.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    settings,
)
from protocols.http2.client import frames_of, request

INFER = "/inference.GRPCInferenceService/ModelInfer"
ROW = np.linspace(-1, 1, 16, dtype=np.float32)


def good() -> Any:
    wire = service_pb2.ModelInferRequest(model_name="mlp")
    wire.inputs.add(name="x", datatype="FP32", shape=[1, 16])
    wire.raw_input_contents.append(ROW.tobytes())
    return wire


def changed(change: Callable[[Any], None]) -> bytes:
    wire = good()
    change(wire)
    return bytes(wire.SerializeToString())


def shape(*sizes: int) -> bytes:
    def change(wire: Any) -> None:
        wire.inputs[0].shape[:] = sizes

    return changed(change)


def raw(*contents: bytes) -> bytes:
    def change(wire: Any) -> None:
        wire.raw_input_contents[:] = contents

    return changed(change)


def typed(count: int, keep_raw: bool = False) -> bytes:
    def change(wire: Any) -> None:
        wire.inputs[0].contents.fp32_contents.extend([0.5] * count)
        if not keep_raw:
            del wire.raw_input_contents[:]

    return changed(change)


GOOD = good().SerializeToString()
INVALID, INTERNAL = StatusCode.INVALID_ARGUMENT, StatusCode.INTERNAL

MESSAGES: dict[str, tuple[bytes, StatusCode, str]] = {
    "a shape of more elements": (shape(2, 16), INVALID, "'x'"),
    "a shape of fewer elements": (shape(1, 8), INVALID, "'x'"),
    "a shape without elements": (shape(0, 16), INVALID, "'x'"),
    "a negative shape": (shape(-1, 16), INVALID, "'x'"),
    "a shape beyond 64 bits": (shape(2**40, 2**40), INVALID, "'x'"),
    "raw contents one byte short": (raw(ROW.tobytes()[:-1]), INVALID, "'x'"),
    "raw contents one byte long": (raw(ROW.tobytes() + b"!"), INVALID, "'x'"),
    "raw contents of nothing": (raw(b""), INVALID, "'x'"),
    "raw contents of two inputs": (raw(ROW.tobytes(), b""), INVALID, "but got 2"),
    "typed contents too short": (typed(15), INVALID, "'x'"),
    "typed contents too long": (typed(17), INVALID, "'x'"),
    "raw and typed contents": (typed(16, keep_raw=True), INVALID, "contents"),
    "no contents": (raw(), INVALID, "'x'"),
    "nothing": (b"", StatusCode.NOT_FOUND, "''"),
    "no protobuf": (b"\xff" * 40, INTERNAL, "ModelInferRequest"),
    "half a protobuf": (GOOD[:-10], INTERNAL, "ModelInferRequest"),
    "another message": (b"\x08\x01", StatusCode.NOT_FOUND, "''"),
    "a name that is no text": (b"\x0a\x02\xff\xfe", INTERNAL, "ModelInferRequest"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def answers_afterwards(server: RunningServer) -> Any:
    yield
    with grpc.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ModelInfer(good(), timeout=10).outputs[0].name == "y"


@pytest.mark.parametrize(("message", "status", "words"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_that_is_wrong(
    server: RunningServer, message: bytes, status: StatusCode, words: str
) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(INFER)(message, timeout=10)
        assert error.value.code() is status
        assert words in error.value.details()
        answer = channel.unary_unary(INFER)(GOOD, timeout=10)
        assert service_pb2.ModelInferResponse.FromString(answer).model_name == "mlp"


# -- bodies that no client of gRPC sends -----------------------------------------------------------


def prefixed(flag: int, length: int, body: bytes) -> bytes:
    return bytes((flag,)) + length.to_bytes(4, "big") + body


def packed(body: bytes) -> bytes:
    return prefixed(1, len(body), body)


def bomb() -> bytes:
    """Far more than is allowed, in a few kilobytes."""
    made = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([made.compress(bytes(1 << 20)) for _ in range(300)]) + made.flush()


BODIES: dict[str, tuple[bytes, dict[str, bytes], int, bytes]] = {
    "no length prefix": (GOOD, {}, 13, b"begins with flag 10"),
    "a length beyond the body": (prefixed(0, len(GOOD) + 1, GOOD), {}, 13, b"middle of a message"),
    "a length within the body": (prefixed(0, len(GOOD) - 9, GOOD), {}, 13, b"message"),
    "a length of 4 GiB": (prefixed(0, 2**32 - 1, GOOD), {}, 8, b"larger than max"),
    "half a prefix": (b"\0\0\0", {}, 13, b"middle of a message"),
    "nothing": (b"", {}, 13, b"without a message"),
    "two messages": (framed(GOOD) * 2, {}, 13, b"one message, not several"),
    "compressed, with nothing": (packed(gzip.compress(GOOD)), {}, 13, b"no grpc-encoding"),
    "compressed with another": (packed(zlib.compress(GOOD)), {"grpc_encoding": b"gzip"}, 13,
                                b"not valid gzip data"),
    "compressed in part": (packed(gzip.compress(GOOD)[:-6]), {"grpc_encoding": b"gzip"}, 13,
                           b"not one whole piece of gzip"),
    "a bomb": (packed(bomb()), {"grpc_encoding": b"gzip"}, 8, b"larger than max after"),
}  # fmt: skip


def status_of(server: RunningServer, method: str, body: bytes, fields: Any) -> tuple[int, bytes]:
    """The status and message that a call with this body ends with."""
    host, port = server.grpc.split(":")
    pieces = [body[at : at + 16_000] for at in range(0, len(body), 16_000)]
    block = request(_path=method.encode(), **fields)
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(
            PREFACE + settings({}) + frame(SETTINGS, ACK, 0)
            + frame(HEADERS, END_HEADERS, 1, block)
            + b"".join(frame(DATA, 0, 1, piece) for piece in pieces)
            + frame(DATA, END_STREAM, 1, b"")
        )  # fmt: skip
        stream, decoder, found = connection.makefile("rb"), Decoder(), dict[bytes, bytes]()
        while True:
            start = stream.read(9)
            payload = stream.read(int.from_bytes(start[:3], "big"))
            ((kind, flags, _, payload),) = frames_of(start + payload)
            if kind == HEADERS:
                found |= dict(decoder.decode(payload, raw=True))
                if flags & END_STREAM:
                    stream.close()
                    return int(found[b"grpc-status"]), found.get(b"grpc-message", b"")


@pytest.mark.parametrize("method", ["ModelInfer", "ModelConfig"])
@pytest.mark.parametrize(("body", "fields", "status", "words"), BODIES.values(), ids=BODIES)
def test_a_body_that_is_wrong(
    server: RunningServer, method: str, body: bytes, fields: Any, status: int, words: bytes
) -> None:
    path = INFER.replace("ModelInfer", method)
    found, message = status_of(server, path, body, fields)
    assert (found, words in message) == (status, True), message


@pytest.mark.parametrize(
    "name", [name for name in BODIES if name not in ("nothing", "two messages")]
)
def test_a_stream_that_is_wrong(server: RunningServer, name: str) -> None:
    body, fields, status, words = BODIES[name]
    path = INFER.replace("ModelInfer", "ModelStreamInfer")
    found, message = status_of(server, path, body, fields)
    assert (found, words in message) == (status, True), message
