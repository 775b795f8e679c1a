import pytest
from hpack import Decoder, Encoder

from inferd.protocols.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Fault
from inferd.protocols.http2.headers import (
    MAX_KNOWN,
    HeaderDecoder,
    Malformed,
    TooLarge,
    encode_block,
    request_of,
)
from protocols.http2.client import REQUEST, Pairs, request


def read(block: bytes) -> Pairs:
    return [(bytes(n), bytes(v)) for n, v in Decoder().decode(block, raw=True)]


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [(b":status", b"200")],
        [(b":status", b"415"), (b"grpc-message", b"x" * 126)],
        [(b"content-type", b"application/grpc"), (b"date", b"")],
        [(b"x" * 127, b"y" * 128), (b"x", b"z" * 20_000)],
    ],
)
def test_what_is_encoded_is_read_by_any_decoder(pairs: Pairs) -> None:
    assert read(encode_block(pairs)) == pairs


def test_what_is_encoded_leaves_the_table_alone() -> None:
    decoder = Decoder()
    decoder.decode(encode_block(REQUEST))
    assert not decoder.header_table.dynamic_entries


def test_a_block_that_leaves_the_table_alone_is_known() -> None:
    decoder = HeaderDecoder(16_384)
    block = request()
    first = decoder.request(block)
    assert decoder.known == {block: first}


def test_a_known_block_is_forgotten_when_the_table_changes() -> None:
    encoder = Encoder()
    decoder = HeaderDecoder(16_384)
    decoder.request(encoder.encode(REQUEST))
    assert decoder.known == {}
    indexed = encoder.encode(REQUEST)
    assert decoder.request(indexed).fields[b":path"] == b"/package.Service/Method"
    assert indexed in decoder.known
    other = encoder.encode([*REQUEST, (b"x", b"1")])
    assert decoder.request(other).fields[b"x"] == b"1"
    assert decoder.known == {}
    # What the old block means now is another request.
    assert decoder.request(encoder.encode(REQUEST)).fields == dict(REQUEST)


def test_a_table_that_loses_entries_is_another_table() -> None:
    encoder = Encoder()
    decoder = HeaderDecoder(16_384)
    decoder.request(encoder.encode(REQUEST))
    decoder.request(encoder.encode(REQUEST))
    assert decoder.known
    with pytest.raises(Malformed):
        decoder.request(b"\x20")  # a size of 0, and nothing else
    assert decoder.known == {}


def test_a_block_that_cannot_be_read_has_changed_the_table_up_to_there() -> None:
    decoder = HeaderDecoder(16_384)
    decoder.request(request())
    with pytest.raises(Fault):
        decoder.request(b"\x40\x01a\x01b\xff")
    assert decoder.known == {}


def test_only_so_many_blocks_are_known() -> None:
    decoder = HeaderDecoder(16_384)
    for number in range(3 * MAX_KNOWN):
        decoder.request(request(x=b"%d" % number))
        assert len(decoder.known) <= MAX_KNOWN
    decoder.request(request(x=b"y" * 2000))
    assert all(len(block) < 2000 for block in decoder.known)


def test_fields_that_are_repeated_are_joined() -> None:
    pairs = [*REQUEST, (b"x", b"1"), (b"cookie", b"a=1"), (b"x", b"2"), (b"cookie", b"b=2")]
    fields = request_of(pairs).fields
    assert fields[b"x"] == b"1,2"
    assert fields[b"cookie"] == b"a=1; b=2"


def test_content_length() -> None:
    assert request_of(REQUEST).length == -1
    assert request_of([*REQUEST, (b"content-length", b"17")]).length == 17


def test_a_list_of_fields_too_large_is_refused_and_a_larger_one_ends_all() -> None:
    decoder = HeaderDecoder(1000)
    with pytest.raises(TooLarge):
        decoder.request(request(x=b"y" * 1000))
    with pytest.raises(Fault) as fault:
        decoder.request(request(x=b"y" * 2000))
    assert fault.value.code == ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "block",
    [b"\x80", b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x00\x81\xff\x00", b"\x00", b"\x82\x20"],
    ids=["index 0", "a number without end", "codes without end", "no name", "a late size"],
)
def test_what_cannot_be_read(block: bytes) -> None:
    with pytest.raises(Fault) as fault:
        HeaderDecoder(16_384).request(block)
    assert fault.value.code == COMPRESSION_ERROR
