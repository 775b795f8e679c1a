"""Messages cut out of a stream, whatever the borders of its pieces."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.errors import PayloadTooLarge
from inferd.protocols.grpc.framing import (
    Frame,
    MessageReader,
    decompressed,
    framed,
    framed_compressed,
)
from inferd.protocols.malformed import Malformed
from protocols.http.harness import cut

MOST = 1 << 16


def read(pieces: list[bytes], reader: MessageReader | None = None) -> list[Frame]:
    reader = reader or MessageReader(MOST)
    found = [frame for piece in pieces for frame in reader.feed(memoryview(piece))]
    return [(compressed, bytes(message)) for compressed, message in found]


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(0, 2000), max_size=12))
def test_any_pieces_give_the_same_messages(messages: list[bytes], points: list[int]) -> None:
    whole = b"".join(framed(message) for message in messages)
    assert read(cut(whole, points)) == [(False, message) for message in messages]


def test_what_is_not_whole_is_waited_for() -> None:
    reader = MessageReader(MOST)
    assert not reader.in_message
    assert read([b"\x00\x00"], reader) == []
    assert reader.in_message
    assert read([b"\x00\x00\x03a", b"b"], reader) == []
    assert reader.in_message
    assert read([b"c\x00"], reader) == [(False, b"abc")]
    assert reader.in_message
    assert read([b"\x00\x00\x00\x00"], reader) == [(False, b"")]
    assert not reader.in_message


def test_too_large_a_message_is_refused_by_its_prefix() -> None:
    assert read([framed(bytes(MOST))]) == [(False, bytes(MOST))]
    with pytest.raises(PayloadTooLarge, match=r"larger than max \(65537 vs. 65536\)"):
        read([framed(bytes(MOST + 1))[:5]])


def test_another_flag_is_no_message() -> None:
    with pytest.raises(Malformed, match="begins with flag 2"):
        read([b"\x02\x00\x00\x00\x00"])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_messages_come_back(encoding: str) -> None:
    message = b"all work and no play" * 100
    ((compressed, small),) = read([framed_compressed(message, encoding)])
    assert compressed
    assert len(small) < 100
    assert decompressed(small, encoding, MOST) == message
    assert {"gzip": gzip.decompress, "deflate": zlib.decompress}[encoding](small) == message


@pytest.mark.parametrize(
    ("data", "encoding", "phrase"),
    [
        (b"abc", "identity", "no grpc-encoding says with what"),
        (b"abc", "gzip", "not valid gzip data"),
        (gzip.compress(b"abc", mtime=0)[:-3], "gzip", "not one whole piece of gzip"),
        (zlib.compress(b"abc") + b"!", "deflate", "not one whole piece of deflate"),
    ],
)
def test_what_is_not_compressed_as_said_is_refused(data: bytes, encoding: str, phrase: str) -> None:
    with pytest.raises(Malformed, match=phrase):
        decompressed(data, encoding, MOST)


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(PayloadTooLarge, match="after decompression"):
        decompressed(zlib.compress(bytes(MOST + 1)), "deflate", MOST)
