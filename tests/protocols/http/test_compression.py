import contextlib
import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.errors import InvalidRequest, PayloadTooLarge, Unsupported
from inferd.protocols.http.compression import choose_encoding, compress, decompress


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(body) + stream.flush()


PACKED = {"gzip": gzip.compress, "deflate": zlib.compress, "raw deflate": raw_deflate}


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(sorted(PACKED)))
def test_what_was_packed_is_unpacked(body: bytes, kind: str) -> None:
    packed = PACKED[kind](body)
    assert decompress(packed, kind.removeprefix("raw "), 300) == body


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]))
def test_what_we_pack_others_unpack(body: bytes, encoding: str) -> None:
    packed = compress(body, encoding)
    assert (gzip.decompress(packed) if encoding == "gzip" else zlib.decompress(packed)) == body


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_a_plain_body_is_left_alone(encoding: str) -> None:
    assert decompress(b"plain", encoding, 10) == b"plain"


def test_names_of_encodings_have_no_case() -> None:
    assert decompress(gzip.compress(b"x"), " GZip ", 10) == b"x"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzipped", "x"])
def test_an_unknown_encoding_is_unsupported_and_named(encoding: str) -> None:
    with pytest.raises(Unsupported, match=f"'{encoding}' is not supported; use gzip or deflate"):
        decompress(b"", encoding, 10)


@pytest.mark.parametrize("kind", sorted(PACKED))
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(kind: str) -> None:
    encoding = kind.removeprefix("raw ")
    packed = PACKED[kind](b"\x00" * 5000)
    assert len(decompress(packed, encoding, 5000)) == 5000
    with pytest.raises(PayloadTooLarge, match="maximum allowed input size of 4999 bytes"):
        decompress(packed, encoding, 4999)


@pytest.mark.parametrize("kind", sorted(PACKED))
def test_a_bomb_is_refused_before_it_goes_off(kind: str) -> None:
    packed = PACKED[kind](b"\x00" * 50_000_000)
    assert len(packed) < 100_000
    with pytest.raises(PayloadTooLarge):
        decompress(packed, kind.removeprefix("raw "), 1000)


@pytest.mark.parametrize("kind", sorted(PACKED))
def test_a_body_cut_short_is_refused_wherever_it_is_cut(kind: str) -> None:
    packed = PACKED[kind](b"some text, some more text" * 3)
    for length in range(len(packed)):
        with pytest.raises(InvalidRequest):
            decompress(packed[:length], kind.removeprefix("raw "), 1000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [b"", b"not packed at all", b"\x1f\x8b\x08garbage garbage"])
def test_what_is_not_packed_is_refused(encoding: str, body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=encoding):
        decompress(body, encoding, 1000)


def test_a_damaged_body_is_refused() -> None:
    packed = bytearray(gzip.compress(b"some text"))
    packed[-5] ^= 1  # the checksum
    with pytest.raises(InvalidRequest, match="not valid gzip data"):
        decompress(bytes(packed), "gzip", 1000)


@pytest.mark.parametrize("kind", sorted(PACKED))
def test_nothing_may_follow_what_was_packed(kind: str) -> None:
    """A second member would be lost in silence."""
    twice = PACKED[kind](b"one") * 2
    with contextlib.suppress(InvalidRequest):
        assert decompress(twice, kind.removeprefix("raw "), 1000) == b"oneone"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (b"", ""), (b"gzip", "gzip"), (b"deflate", "deflate"), (b"gzip, deflate, br", "gzip"),
        (b"deflate, gzip", "gzip"), (b"GZIP", "gzip"), (b"br, zstd", ""), (b"identity", ""),
        (b"gzip;q=0", ""), (b"gzip; q=0.000, deflate;q=0.5", "deflate"), (b"gzip;q=0.1", "gzip"),
        (b"deflate;q=0, gzip;q=0.0", ""), (b"xgzip", ""), (b"\xff\xfe", ""), (b",,;,", ""),
    ],
)  # fmt: skip
def test_encoding_of_an_answer(accept: bytes, chosen: str) -> None:
    assert choose_encoding(accept) == chosen
