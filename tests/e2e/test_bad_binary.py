import gzip
from typing import Any

import numpy as np
import pytest

from e2e.harness import Answer, RunningServer
from e2e.wire import (
    GOOD_BODY,
    HEADER_LENGTH,
    assert_refused,
    assert_serves,
    binary_body,
    bytes_elements,
)

ROW = np.linspace(-1, 1, 16, dtype=np.float32).tobytes()


def described(size: Any, datatype: str = "FP32", shape: tuple[int, ...] = (1, 16)) -> Any:
    """An input whose data follow the JSON."""
    parameters = {"binary_data_size": size}
    return {"name": "x", "shape": list(shape), "datatype": datatype, "parameters": parameters}


def ask(server: RunningServer, model: str, request: Any, *blobs: bytes) -> list[Answer]:
    """The answers to a binary request: as it is, and compressed."""
    body, headers = binary_body(request, *blobs)
    return [
        server.infer(model, body, headers),
        server.infer(model, gzip.compress(body), {**headers, "Content-Encoding": "gzip"}),
    ]


def assert_all_refused(
    server: RunningServer, answers: list[Answer], phrase: str, status: int = 400
) -> None:
    for answer in answers:
        assert_refused(server, answer, status, phrase)


def test_binary_request_is_answered(server: RunningServer) -> None:
    plain = server.infer("mlp", GOOD_BODY)
    for answer in ask(server, "mlp", {"inputs": [described(64)]}, ROW):
        assert answer.body == plain.body


@pytest.mark.parametrize(
    "length",
    ["-1", "-0", "+5", "abc", "0x10", "1.5", "1e2", "1_0", "", "9" * 18 + "9", "9" * 400, "\xb2"],
)
def test_header_length_that_is_no_count_is_refused(server: RunningServer, length: str) -> None:
    body, _ = binary_body({"inputs": [described(64)]}, ROW)
    answer = server.infer("mlp", body, {HEADER_LENGTH: length})
    phrase = "Inference-Header-Content-Length must be a non-negative integer"
    assert_refused(server, answer, 400, phrase)


@pytest.mark.parametrize("extra", [1, 2**31, 2**32, 2**53, 9 * 10**17])
def test_header_length_beyond_the_body_is_refused(server: RunningServer, extra: int) -> None:
    body, _ = binary_body({"inputs": [described(64)]}, ROW)
    length = len(body) + extra
    answer = server.infer("mlp", body, {HEADER_LENGTH: str(length)})
    phrase = f"Inference-Header-Content-Length is {length}, but the body has only {len(body)} bytes"
    assert_refused(server, answer, 400, phrase)


@pytest.mark.parametrize("shift", [-1, 1, -40])
def test_header_length_that_cuts_at_the_wrong_place_is_refused(
    server: RunningServer, shift: int
) -> None:
    body, headers = binary_body({"inputs": [described(64)]}, ROW)
    answer = server.infer("mlp", body, {HEADER_LENGTH: str(int(headers[HEADER_LENGTH]) + shift)})
    assert_refused(server, answer, 400, "failed to parse the request JSON buffer")


@pytest.mark.parametrize("size", [0, 1, 60, 63])
def test_too_few_bytes_are_refused(server: RunningServer, size: int) -> None:
    request = {"inputs": [described(64)]}
    phrase = f"input 'x' needs 64 bytes, only {size} are left"
    assert_all_refused(server, ask(server, "mlp", request, ROW[:size]), phrase)


@pytest.mark.parametrize("extra", [1, 4, 64])
def test_too_many_bytes_are_refused(server: RunningServer, extra: int) -> None:
    request = {"inputs": [described(64)]}
    phrase = f"unexpected additional input data for model 'mlp': {extra} bytes"
    assert_all_refused(server, ask(server, "mlp", request, ROW, bytes(extra)), phrase)


@pytest.mark.parametrize("size", [0, 60, 63, 65, 68, 128])
def test_size_that_does_not_fit_the_shape_is_refused(server: RunningServer, size: int) -> None:
    request = {"inputs": [described(size)]}
    phrase = f"input byte size mismatch for input 'x' for model 'mlp'. Expected 64, got {size}"
    assert_all_refused(server, ask(server, "mlp", request, bytes(size)), phrase)


@pytest.mark.parametrize("size", [-1, -64, "64", 64.0, True], ids=repr)
def test_size_that_is_no_count_is_refused(server: RunningServer, size: Any) -> None:
    phrase = "parameter 'binary_data_size' must be a non-negative integer"
    assert_all_refused(server, ask(server, "mlp", {"inputs": [described(size)]}, ROW), phrase)


@pytest.mark.parametrize("size", [2**31, 2**62, 2**64, 10**30])
def test_size_far_beyond_the_body_is_refused(server: RunningServer, size: int) -> None:
    assert_all_refused(server, ask(server, "mlp", {"inputs": [described(size)]}, ROW), "input 'x'")


@pytest.mark.parametrize(
    "shape", [(-1, 16), (2**62, 16), (2**32, 2**32), (0, 2**62, 16), (2**61, 1), (0, 16)], ids=str
)
def test_impossible_binary_shape_is_refused(server: RunningServer, shape: tuple[int, ...]) -> None:
    size = 0 if 0 in shape else 64
    request = {"inputs": [described(size, shape=shape)]}
    assert_all_refused(server, ask(server, "mlp", request, ROW[:size]), "")


def test_data_both_ways_are_refused(server: RunningServer) -> None:
    both = {**described(64), "data": [0.5] * 16}
    phrase = "input 'x' has both 'data' and 'binary_data_size'"
    assert_all_refused(server, ask(server, "mlp", {"inputs": [both]}, ROW), phrase)


def test_binary_size_without_the_header_is_refused(server: RunningServer) -> None:
    answer = server.infer("mlp", {"inputs": [described(64)]})
    assert_refused(server, answer, 400, "no 'Inference-Header-Content-Length' header")


def test_bytes_behind_the_json_without_the_header_are_refused(server: RunningServer) -> None:
    body, _ = binary_body({"inputs": [described(64)]}, ROW)
    phrase = "failed to parse the request JSON buffer"
    assert_refused(server, server.infer("mlp", body), 400, phrase)


def test_wrong_datatype_in_binary_is_refused(server: RunningServer) -> None:
    phrase = "inference input 'x' data-type is 'INT32', but model 'mlp' expects 'FP32'"
    request = {"inputs": [described(64, "INT32")]}
    assert_all_refused(server, ask(server, "mlp", request, ROW), phrase)
    request = {"inputs": [described(64, "FP8")]}
    assert_all_refused(server, ask(server, "mlp", request, ROW), "unknown datatype 'FP8'")


BAD_BYTES: dict[str, tuple[bytes, str]] = {
    "no elements": (b"", "unexpected number of string elements 0 for inference input 'x'"),
    "three of four": (bytes_elements(b"a", b"b", b"c"), "unexpected number of string elements 3"),
    "five of four": (bytes_elements(*[b"a"] * 5), "unexpected number of string elements 5"),
    "length cut off": (
        bytes_elements(b"a", b"b", b"c") + b"\1\0\0",
        "incomplete string length indicator for inference input 'x'",
    ),
    "element cut off": (
        bytes_elements(b"a", b"b", b"c", b"four")[:-1],
        "incomplete string data for inference input 'x'",
    ),
    "length beyond the end": (
        bytes_elements(b"a", b"b", b"c") + b"\xff\xff\xff\xff",
        "incomplete string data for inference input 'x'",
    ),
    "first length beyond the end": (
        b"\x00\x00\x00\x80" + bytes(12),
        "incomplete string data for inference input 'x'",
    ),
    "not UTF-8": (bytes_elements(b"a", b"b", b"c", b"\xff"), "not UTF-8"),
}


@pytest.mark.parametrize(("blob", "phrase"), BAD_BYTES.values(), ids=BAD_BYTES)
def test_bad_string_elements_are_refused(server: RunningServer, blob: bytes, phrase: str) -> None:
    request = {"inputs": [described(len(blob), "BYTES", (1, 4))]}
    assert_all_refused(server, ask(server, "identity_bytes", request, blob), phrase)


@pytest.mark.parametrize(
    ("model", "size", "phrase"),
    [
        ("mlp", 60, "input byte size mismatch for raw input 'x'. Expected 64, got 60"),
        ("mlp", 0, "input byte size mismatch for raw input 'x'. Expected 64, got 0"),
        ("free_fp32", 6, "The shape of the raw input 'x' can not be deduced"),
        ("add", 16, "raw input must have exactly one input"),
        ("identity_bytes", 16, "the model must have input shape [1]"),
        ("fixed", 23, "input byte size mismatch for raw input 'x'. Expected 24, got 23"),
    ],
)
def test_raw_body_that_does_not_fit_is_refused(
    server: RunningServer, model: str, size: int, phrase: str
) -> None:
    answer = server.infer(model, bytes(size), {HEADER_LENGTH: "0"})
    assert_refused(server, answer, 400, phrase)


def test_raw_body_is_answered_in_binary(server: RunningServer) -> None:
    answer = server.infer("identity_fp32", ROW[:16], {HEADER_LENGTH: "0"})
    assert answer.status == 200, answer
    length = int(answer.headers[HEADER_LENGTH.lower()])
    assert answer.body[length:] == ROW[:16]
    assert_serves(server)


def test_binary_request_for_an_unknown_model_is_not_found(server: RunningServer) -> None:
    for headers in ({HEADER_LENGTH: "0"}, {HEADER_LENGTH: "0", "Content-Encoding": "identity"}):
        answer = server.infer("nope", ROW, headers)
        phrase = "Request for unknown model: 'nope' is not found"
        assert_refused(server, answer, 404, phrase)
