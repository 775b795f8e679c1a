import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import RunningServer
from e2e.wire import GOOD_BODY, AnswerReader, assert_refused, exchange, head

LIMIT = 64 * 1024
INFER = "/v2/models/mlp/infer"
TOO_LARGE = "exceeds the maximum allowed input size"


@pytest.fixture(scope="module")
def small(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that takes bodies of at most LIMIT bytes."""
    log = tmp_path_factory.mktemp("small") / "server.log"
    running = RunningServer(log, repository / "mlp", "--http-max-input-size", str(LIMIT))
    yield running
    running.stop()


def padded(size: int) -> bytes:
    """The good request in so many bytes."""
    text = json.dumps(GOOD_BODY).encode()
    return text + b" " * (size - len(text))


def chunked(data: bytes, size: int = 1000) -> bytes:
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_body_of_just_the_limit_is_taken(small: RunningServer) -> None:
    plain = small.infer("mlp", GOOD_BODY)
    assert plain.status == 200
    assert small.infer("mlp", padded(LIMIT)).body == plain.body
    packed = gzip.compress(padded(LIMIT))
    answer = small.infer("mlp", packed, {"Content-Encoding": "gzip"})
    assert answer.body == plain.body
    data = head("POST", INFER, "Transfer-Encoding: chunked") + chunked(padded(LIMIT))
    answer, _ = exchange(small, data)
    assert answer.body == plain.body


@pytest.mark.parametrize("path", [INFER, "/v2/repository/index"])
@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT * 4])
def test_body_over_the_limit_is_refused(small: RunningServer, path: str, size: int) -> None:
    data = head("POST", path, f"Content-Length: {size}") + padded(size)
    answer, closed = exchange(small, data)
    assert closed
    assert_refused(small, answer, 413, TOO_LARGE)


@pytest.mark.parametrize("size", [LIMIT + 1, 2**31, 2**63 - 1])
def test_announced_body_over_the_limit_is_refused_before_it_comes(
    small: RunningServer, size: int
) -> None:
    answer, closed = exchange(small, head("POST", INFER, f"Content-Length: {size}"))
    assert closed
    assert_refused(small, answer, 413, TOO_LARGE)


@pytest.mark.parametrize("size", [2**64 - 1, 2**64, 10**30])
def test_announced_length_beyond_64_bits_is_refused(small: RunningServer, size: int) -> None:
    answer, closed = exchange(small, head("POST", INFER, f"Content-Length: {size}"))
    assert closed
    assert answer.status in (400, 413), answer
    assert_refused(small, answer, answer.status, "")


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT * 4])
def test_chunked_body_over_the_limit_is_refused(small: RunningServer, size: int) -> None:
    data = head("POST", INFER, "Transfer-Encoding: chunked") + chunked(padded(size))
    answer, closed = exchange(small, data)
    assert closed
    assert_refused(small, answer, 413, TOO_LARGE)


def test_chunk_announced_over_the_limit_is_refused(small: RunningServer) -> None:
    with small.connect() as connection:
        connection.sendall(head("POST", INFER, "Transfer-Encoding: chunked"))
        connection.sendall(b"%x\r\n%b" % (LIMIT * 16, b" " * (LIMIT + 1)))
        reader = AnswerReader(connection)
        assert_refused(small, reader.read(), 413, TOO_LARGE)
        assert reader.at_end()


def test_client_that_asks_before_it_sends_too_much_is_told_no(small: RunningServer) -> None:
    fields = (f"Content-Length: {LIMIT + 1}", "Expect: 100-continue")
    answer, closed = exchange(small, head("POST", INFER, *fields))
    assert closed
    assert_refused(small, answer, 413, TOO_LARGE)


def compressed(data: bytes, encoding: str) -> bytes:
    wbits = {"gzip": 31, "deflate": 15, "raw deflate": -15}[encoding]
    stream = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize("size", [LIMIT + 1, 32 << 20])
def test_bomb_is_refused(small: RunningServer, encoding: str, size: int) -> None:
    body = compressed(padded(size), encoding)
    assert len(body) < LIMIT
    before = small.metric("inferd_resident_memory_bytes")
    answer = small.infer("mlp", body, {"Content-Encoding": encoding.split()[-1]})
    assert_refused(small, answer, 413, TOO_LARGE)
    assert small.metric("inferd_resident_memory_bytes") < before + (16 << 20)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate"])
def test_compressed_body_is_read(small: RunningServer, encoding: str) -> None:
    body = compressed(json.dumps(GOOD_BODY).encode(), encoding)
    answer = small.infer("mlp", body, {"Content-Encoding": encoding.split()[-1]})
    assert answer.body == small.infer("mlp", GOOD_BODY).body


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_truncated_compressed_body_is_refused(small: RunningServer, encoding: str) -> None:
    body = compressed(json.dumps(GOOD_BODY).encode(), encoding)
    for cut in (1, 4, 9, len(body) // 2):
        answer = small.infer("mlp", body[:-cut], {"Content-Encoding": encoding})
        assert_refused(small, answer, 400, f"request body is truncated {encoding} data")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [b"", json.dumps(GOOD_BODY).encode(), b"\xff" * 100], ids=len)
def test_body_that_is_not_compressed_as_it_says_is_refused(
    small: RunningServer, encoding: str, body: bytes
) -> None:
    answer = small.infer("mlp", body, {"Content-Encoding": encoding})
    assert_refused(small, answer, 400, encoding)


def test_corrupt_checksum_is_refused(small: RunningServer) -> None:
    body = bytearray(gzip.compress(json.dumps(GOOD_BODY).encode()))
    body[-8] ^= 0xFF
    answer = small.infer("mlp", bytes(body), {"Content-Encoding": "gzip"})
    assert_refused(small, answer, 400, "request body is not valid gzip data")


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x" * 1000])
def test_unknown_encoding_is_not_implemented(small: RunningServer, encoding: str) -> None:
    answer = small.infer("mlp", GOOD_BODY, {"Content-Encoding": encoding})
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert_refused(small, answer, 501, "is not supported; use gzip or deflate")
