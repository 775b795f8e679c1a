"""What RFC 9113 asks of a server, by section: the bytes of a client, and what comes of them."""

import itertools
from dataclasses import dataclass, field

import pytest

from inferd.protocols.http2.frames import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    MAX_WINDOW,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    frame,
    rst_stream,
    settings,
    window_update,
)
from inferd.protocols.http2.headers import encode_block
from inferd.protocols.http2.limits import Http2Limits
from protocols.http2.client import (
    HEAD_BLOCK,
    LAST_BLOCK,
    REQUEST,
    Client,
    Echo,
    Frame,
    Sink,
    call,
    data,
    headers,
    payload_of,
    request,
    resets_of,
)

WHOLE = END_HEADERS | END_STREAM
BEGIN = PREFACE + settings({}) + frame(SETTINGS, ACK, 0)


@dataclass(frozen=True)
class Ends:
    """The connection, with a code."""

    code: int


@dataclass(frozen=True)
class Resets:
    """One stream, with a code; the connection goes on."""

    stream_id: int
    code: int


@dataclass(frozen=True)
class Answers:
    """These calls are answered, with these bodies, and nothing is wrong."""

    bodies: dict[int, bytes] = field(default_factory=dict)


FINE = Answers({1: b"question"})
Outcome = Ends | Resets | Answers


def continued(stream_id: int, block: bytes, *cuts: int, flags: int = 0) -> bytes:
    """A block in HEADERS and CONTINUATION, cut at these places."""
    edges = [0, *cuts, len(block)]
    parts = [block[a:b] for a, b in itertools.pairwise(edges)]
    last = frame(CONTINUATION, END_HEADERS, stream_id, parts[-1])
    middle = b"".join(frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1])
    return frame(HEADERS, flags, stream_id, parts[0]) + middle + last


def fields(*pairs: tuple[bytes, bytes]) -> bytes:
    return encode_block(pairs)


POST, HTTP, PATH = REQUEST[:3]

CASES: list[tuple[str, str, bytes, Outcome]] = [
    # 3.4 HTTP/2 connection preface
    ("3.4", "a preface, SETTINGS, a call", BEGIN + call(1), FINE),
    ("3.4", "junk in place of the preface", b"\x16\x03\x01\x02\x00\x01", Ends(PROTOCOL_ERROR)),
    ("3.4", "a preface with one wrong byte", b"PRI * HTTP/2.0\r\n\r\nSX", Ends(PROTOCOL_ERROR)),
    ("3.4", "a frame before SETTINGS", PREFACE + frame(PING, 0, 0, bytes(8)),
     Ends(PROTOCOL_ERROR)),
    ("3.4", "an acknowledgement before SETTINGS", PREFACE + frame(SETTINGS, ACK, 0),
     Ends(PROTOCOL_ERROR)),
    # 4.1 Frame format
    ("4.1", "a type nobody knows", BEGIN + frame(0xEE, 0xFF, 7, b"what") + call(1), FINE),
    ("4.1", "flags that mean nothing", BEGIN + headers(1) + data(1, b"question", 0xF7 & ~PADDED),
     FINE),
    ("4.1", "the reserved bit of a stream's number",
     BEGIN + headers(1) + frame(DATA, END_STREAM, 1 | 1 << 31, b"question"), FINE),
    # 4.2 Frame size
    ("4.2", "a frame as long as we allow", BEGIN + headers(1) + window_update(0, 1)
     + window_update(1, 1) + data(1, bytes(65_536), END_STREAM), Answers({1: bytes(65_536)})),
    ("4.2", "a frame longer than we allow", BEGIN + headers(1) + data(1, bytes(65_537)),
     Ends(FRAME_SIZE_ERROR)),
    ("4.2", "the head of such a frame alone", BEGIN + b"\xff\xff\xff" + bytes(6),
     Ends(FRAME_SIZE_ERROR)),
    # 4.3 Field section compression
    ("4.3", "a block that cannot be read", BEGIN + headers(1, b"\xbf"), Ends(COMPRESSION_ERROR)),
    ("4.3", "a block that ends too soon", BEGIN + headers(1, b"\x00\x05ab"),
     Ends(COMPRESSION_ERROR)),
    ("4.3", "a table larger than we allow", BEGIN + headers(1, b"\x3f\xe2\x1f" + request()),
     Ends(COMPRESSION_ERROR)),
    ("4.3", "a block for a stream that is refused keeps the table",
     BEGIN + headers(1, b"\x40\x01a\x01b" + b"\x83") + headers(3, request() + b"\xbe")
     + data(3, b"x", END_STREAM), Resets(1, PROTOCOL_ERROR)),
    ("4.3", "another frame within a block",
     BEGIN + headers(1, flags=0) + frame(PING, 0, 0, bytes(8)), Ends(PROTOCOL_ERROR)),
    ("4.3", "a frame of no known type within a block",
     BEGIN + headers(1, flags=0) + frame(0xEE, 0, 0), Ends(PROTOCOL_ERROR)),
    ("4.3", "a block of another stream within a block", BEGIN + headers(1, flags=0) + headers(3),
     Ends(PROTOCOL_ERROR)),
    # 5.1 Stream states
    ("5.1", "DATA on an idle stream", BEGIN + data(1, b"x"), Ends(PROTOCOL_ERROR)),
    ("5.1", "RST_STREAM on an idle stream", BEGIN + rst_stream(1, CANCEL), Ends(PROTOCOL_ERROR)),
    ("5.1", "WINDOW_UPDATE on an idle stream", BEGIN + window_update(1, 1), Ends(PROTOCOL_ERROR)),
    ("5.1", "CONTINUATION on an idle stream", BEGIN + frame(CONTINUATION, END_HEADERS, 1),
     Ends(PROTOCOL_ERROR)),
    ("5.1", "PRIORITY on an idle stream", BEGIN + frame(PRIORITY, 0, 9, bytes(5)) + call(1), FINE),
    ("5.1", "DATA on a closed stream", BEGIN + call(1) + data(1, b"x"), Resets(1, STREAM_CLOSED)),
    ("5.1", "HEADERS on a closed stream", BEGIN + call(1) + headers(1), Ends(STREAM_CLOSED)),
    ("5.1", "CONTINUATION on a closed stream", BEGIN + call(1) + frame(CONTINUATION, 4, 1),
     Ends(PROTOCOL_ERROR)),
    ("5.1", "WINDOW_UPDATE on a closed stream", BEGIN + call(1) + window_update(1, 5), FINE),
    ("5.1", "RST_STREAM on a closed stream", BEGIN + call(1) + rst_stream(1, CANCEL), FINE),
    ("5.1", "PRIORITY on a closed stream", BEGIN + call(1) + frame(PRIORITY, 0, 1, bytes(5)), FINE),
    ("5.1", "HEADERS on a stream that the client has reset",
     BEGIN + headers(1) + rst_stream(1, CANCEL) + headers(1), Ends(STREAM_CLOSED)),
    ("5.1", "DATA on a stream that the client has reset",
     BEGIN + headers(1) + rst_stream(1, CANCEL) + data(1, b"x"), Resets(1, STREAM_CLOSED)),
    # 5.1.1 Stream identifiers
    ("5.1.1", "an even number", BEGIN + headers(2), Ends(PROTOCOL_ERROR)),
    ("5.1.1", "an even number with a block seen before", BEGIN + call(1) + headers(4),
     Ends(PROTOCOL_ERROR)),
    ("5.1.1", "a number below one before it", BEGIN + call(5) + headers(3), Ends(PROTOCOL_ERROR)),
    ("5.1.1", "numbers left out", BEGIN + call(5) + call(11),
     Answers({5: b"question", 11: b"question"})),
    ("5.1.1", "HEADERS on stream 0", BEGIN + headers(0), Ends(PROTOCOL_ERROR)),
    # 5.5 Extending HTTP/2
    ("5.5", "a setting nobody knows", BEGIN + settings({0xAAAA: 5}) + call(1), FINE),
    # 6.1 DATA
    ("6.1", "padding",
     BEGIN + headers(1) + data(1, b"\x03question\0\0\0", END_STREAM | PADDED), FINE),
    ("6.1", "padding and nothing else",
     BEGIN + headers(1) + data(1, b"\x03\0\0\0", PADDED) + data(1, b"question", END_STREAM), FINE),
    ("6.1", "padding as long as its frame", BEGIN + headers(1) + data(1, b"\x04\0\0\0", PADDED),
     Ends(PROTOCOL_ERROR)),
    ("6.1", "padding without its length", BEGIN + headers(1) + data(1, b"", PADDED),
     Ends(FRAME_SIZE_ERROR)),
    ("6.1", "DATA on stream 0", BEGIN + data(0, b"x"), Ends(PROTOCOL_ERROR)),
    ("6.1", "DATA behind the end of the stream", BEGIN + headers(1, flags=WHOLE) + data(1, b"x"),
     Resets(1, STREAM_CLOSED)),
    ("6.1", "an empty end", BEGIN + headers(1) + data(1, b"question") + data(1, b"", END_STREAM),
     FINE),
    # 6.2 HEADERS
    ("6.2", "padding and priority",
     BEGIN + headers(1, b"\x02" + bytes(5) + request() + b"\0\0",
                     END_HEADERS | PADDED | WITH_PRIORITY)
     + data(1, b"question", END_STREAM), FINE),
    ("6.2", "padding longer than its frame",
     BEGIN + headers(1, b"\xff" + request(), END_HEADERS | PADDED), Ends(PROTOCOL_ERROR)),
    ("6.2", "too short for its priority", BEGIN + headers(1, bytes(4), END_HEADERS | WITH_PRIORITY),
     Ends(FRAME_SIZE_ERROR)),
    # 6.3 PRIORITY
    ("6.3", "PRIORITY on stream 0", BEGIN + frame(PRIORITY, 0, 0, bytes(5)), Ends(PROTOCOL_ERROR)),
    ("6.3", "PRIORITY of a wrong length",
     BEGIN + headers(1) + frame(PRIORITY, 0, 1, bytes(4)), Resets(1, FRAME_SIZE_ERROR)),
    # 6.4 RST_STREAM
    ("6.4", "RST_STREAM on stream 0", BEGIN + rst_stream(0, CANCEL), Ends(PROTOCOL_ERROR)),
    ("6.4", "RST_STREAM of a wrong length", BEGIN + headers(1) + frame(RST_STREAM, 0, 1, bytes(3)),
     Ends(FRAME_SIZE_ERROR)),
    # 6.5 SETTINGS
    ("6.5", "SETTINGS on a stream", BEGIN + frame(SETTINGS, 0, 1), Ends(PROTOCOL_ERROR)),
    ("6.5", "SETTINGS of a wrong length", BEGIN + frame(SETTINGS, 0, 0, bytes(5)),
     Ends(FRAME_SIZE_ERROR)),
    ("6.5", "an acknowledgement that says something", BEGIN + frame(SETTINGS, ACK, 0, bytes(6)),
     Ends(FRAME_SIZE_ERROR)),
    ("6.5.2", "ENABLE_PUSH is 2", BEGIN + settings({2: 2}), Ends(PROTOCOL_ERROR)),
    ("6.5.2", "ENABLE_PUSH is 1", BEGIN + settings({2: 1}) + call(1), FINE),
    ("6.5.2", "a window of 2^31", BEGIN + settings({4: 2**31}), Ends(FLOW_CONTROL_ERROR)),
    ("6.5.2", "MAX_FRAME_SIZE too small", BEGIN + settings({5: 16_383}), Ends(PROTOCOL_ERROR)),
    ("6.5.2", "MAX_FRAME_SIZE too large", BEGIN + settings({5: 2**24}), Ends(PROTOCOL_ERROR)),
    ("6.5.3", "the last of two values counts",
     BEGIN + frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0" + b"\0\4\0\0\xff\xff") + call(1), FINE),
    # 6.6 PUSH_PROMISE
    ("6.6", "PUSH_PROMISE from a client",
     BEGIN + headers(1) + frame(PUSH_PROMISE, 4, 1, bytes(4)), Ends(PROTOCOL_ERROR)),
    # 6.7 PING
    ("6.7", "PING on a stream", BEGIN + frame(PING, 0, 1, bytes(8)), Ends(PROTOCOL_ERROR)),
    ("6.7", "PING of a wrong length", BEGIN + frame(PING, 0, 0, bytes(7)), Ends(FRAME_SIZE_ERROR)),
    ("6.7", "an acknowledgement of no PING", BEGIN + frame(PING, ACK, 0, bytes(8)) + call(1), FINE),
    # 6.8 GOAWAY
    ("6.8", "GOAWAY on a stream", BEGIN + frame(GOAWAY, 0, 1, bytes(8)), Ends(PROTOCOL_ERROR)),
    ("6.8", "GOAWAY of a wrong length", BEGIN + frame(GOAWAY, 0, 0, bytes(7)),
     Ends(FRAME_SIZE_ERROR)),
    ("6.8", "a client that leaves has its calls answered",
     BEGIN + headers(1) + frame(GOAWAY, 0, 0, bytes(8)) + data(1, b"question", END_STREAM), FINE),
    # 6.9 WINDOW_UPDATE
    ("6.9", "nothing more for the connection", BEGIN + window_update(0, 0), Ends(PROTOCOL_ERROR)),
    ("6.9", "nothing more for a stream", BEGIN + headers(1) + window_update(1, 0),
     Resets(1, PROTOCOL_ERROR)),
    ("6.9", "WINDOW_UPDATE of a wrong length", BEGIN + frame(WINDOW_UPDATE, 0, 0, bytes(5)),
     Ends(FRAME_SIZE_ERROR)),
    ("6.9.1", "a connection's window beyond 2^31-1", BEGIN + window_update(0, MAX_WINDOW),
     Ends(FLOW_CONTROL_ERROR)),
    ("6.9.1", "a stream's window beyond 2^31-1", BEGIN + headers(1) + window_update(1, MAX_WINDOW),
     Resets(1, FLOW_CONTROL_ERROR)),
    ("6.9.1", "the largest window", BEGIN + window_update(0, MAX_WINDOW - 65_535) + call(1), FINE),
    ("6.9.2", "SETTINGS that push a window beyond 2^31-1",
     BEGIN + headers(1) + window_update(1, MAX_WINDOW - 65_535) + settings({4: 65_536}),
     Ends(FLOW_CONTROL_ERROR)),
    # 6.10 CONTINUATION
    ("6.10", "a block in three", BEGIN + continued(1, request(), 3, 9)
     + data(1, b"question", END_STREAM), FINE),
    ("6.10", "a block in two that ends the stream", BEGIN + continued(1, request(), 3, flags=1),
     Answers({1: b""})),
    ("6.10", "CONTINUATION of another stream",
     BEGIN + headers(1, flags=0) + frame(CONTINUATION, END_HEADERS, 3), Ends(PROTOCOL_ERROR)),
    ("6.10", "CONTINUATION on stream 0",
     BEGIN + headers(1, flags=0) + frame(CONTINUATION, END_HEADERS, 0), Ends(PROTOCOL_ERROR)),
    ("6.10", "CONTINUATION behind the end of a block",
     BEGIN + headers(1) + frame(CONTINUATION, END_HEADERS, 1), Ends(PROTOCOL_ERROR)),
    ("6.10", "CONTINUATION behind DATA",
     BEGIN + headers(1) + data(1, b"x") + frame(CONTINUATION, END_HEADERS, 1),
     Ends(PROTOCOL_ERROR)),
    # 8.1 Message framing
    ("8.1", "trailers", BEGIN + headers(1) + data(1, b"question")
     + headers(1, fields((b"sum", b"1")), WHOLE), FINE),
    ("8.1", "trailers that do not end the stream", BEGIN + headers(1)
     + headers(1, fields((b"sum", b"1"))), Resets(1, PROTOCOL_ERROR)),
    ("8.1", "trailers with a pseudo-header field", BEGIN + headers(1)
     + headers(1, fields((b":path", b"/")), WHOLE), Resets(1, PROTOCOL_ERROR)),
    ("8.1", "trailers of a connection", BEGIN + headers(1)
     + headers(1, fields((b"connection", b"close")), WHOLE), Resets(1, PROTOCOL_ERROR)),
    # 8.1.1 Malformed messages
    ("8.1.1", "less than content-length", BEGIN + headers(1, request(content_length=b"9"))
     + data(1, b"question", END_STREAM), Resets(1, PROTOCOL_ERROR)),
    ("8.1.1", "more than content-length", BEGIN + headers(1, request(content_length=b"7"))
     + data(1, b"question"), Resets(1, PROTOCOL_ERROR)),
    ("8.1.1", "just content-length, padding apart", BEGIN
     + headers(1, request(content_length=b"8"))
     + data(1, b"\x01question\0", END_STREAM | PADDED), FINE),
    ("8.1.1", "content-length and no body", BEGIN
     + headers(1, request(content_length=b"1"), WHOLE), Resets(1, PROTOCOL_ERROR)),
    ("8.1.1", "content-length 0 and no body", BEGIN
     + headers(1, request(content_length=b"0"), WHOLE), Answers({1: b""})),
    ("8.1.1", "content-length and trailers too soon", BEGIN
     + headers(1, request(content_length=b"1")) + headers(1, fields((b"sum", b"1")), WHOLE),
     Resets(1, PROTOCOL_ERROR)),
    ("8.1.1", "content-length in words", BEGIN + headers(1, request(content_length=b"one")),
     Resets(1, PROTOCOL_ERROR)),
    ("8.1.1", "content-length twice", BEGIN
     + headers(1, request() + fields((b"content-length", b"1"), (b"content-length", b"2"))),
     Resets(1, PROTOCOL_ERROR)),
    # 8.2.1 Field validity
    ("8.2.1", "a name in upper case", BEGIN + headers(1, request() + fields((b"X-A", b"1"))),
     Resets(1, PROTOCOL_ERROR)),
    ("8.2.1", "a name with a space", BEGIN + headers(1, request() + fields((b"x a", b"1"))),
     Resets(1, PROTOCOL_ERROR)),
    ("8.2.1", "a name with a colon", BEGIN + headers(1, request() + fields((b"x:a", b"1"))),
     Resets(1, PROTOCOL_ERROR)),
    ("8.2.1", "an empty name", BEGIN + headers(1, request() + fields((b"", b"1"))),
     Resets(1, PROTOCOL_ERROR)),
    ("8.2.1", "a value of two lines", BEGIN + headers(1, request(x=b"1\r\ny: 2")),
     Resets(1, PROTOCOL_ERROR)),
    ("8.2.1", "a value with a zero", BEGIN + headers(1, request(x=b"1\x00")),
     Resets(1, PROTOCOL_ERROR)),
    ("8.2.1", "a value that begins with a space", BEGIN + headers(1, request(x=b" 1")),
     Resets(1, PROTOCOL_ERROR)),
    ("8.2.1", "a value that ends with a tab", BEGIN + headers(1, request(x=b"1\t")),
     Resets(1, PROTOCOL_ERROR)),
    ("8.2.1", "an empty value", BEGIN + headers(1, request(x=b""))
     + data(1, b"question", END_STREAM), FINE),
    # 8.2.2 Connection-specific fields
    *[
        ("8.2.2", name.decode(), BEGIN + headers(1, request() + fields((name, b"x"))),
         Resets(1, PROTOCOL_ERROR))
        for name in (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding",
                     b"upgrade")
    ],
    ("8.2.2", "te: gzip", BEGIN + headers(1, request(te=b"gzip")), Resets(1, PROTOCOL_ERROR)),
    ("8.2.2", "te: trailers", BEGIN + call(1), FINE),
    # 8.3 Control data
    ("8.3", "a pseudo-header field nobody knows",
     BEGIN + headers(1, fields((b":x", b"1")) + request()), Resets(1, PROTOCOL_ERROR)),
    ("8.3", "a pseudo-header field of answers",
     BEGIN + headers(1, fields((b":status", b"200")) + request()), Resets(1, PROTOCOL_ERROR)),
    ("8.3", "a pseudo-header field behind a field",
     BEGIN + headers(1, fields((b"a", b"1")) + request()), Resets(1, PROTOCOL_ERROR)),
    ("8.3", "a pseudo-header field twice", BEGIN + headers(1, fields(PATH) + request()),
     Resets(1, PROTOCOL_ERROR)),
    # 8.3.1 Request pseudo-header fields
    ("8.3.1", "no :method", BEGIN + headers(1, request(_method=None)), Resets(1, PROTOCOL_ERROR)),
    ("8.3.1", "no :scheme", BEGIN + headers(1, request(_scheme=None)), Resets(1, PROTOCOL_ERROR)),
    ("8.3.1", "no :path", BEGIN + headers(1, request(_path=None)), Resets(1, PROTOCOL_ERROR)),
    ("8.3.1", "an empty :path", BEGIN + headers(1, request(_path=b"")), Resets(1, PROTOCOL_ERROR)),
    ("8.3.1", "no :authority", BEGIN + headers(1, request(_authority=None))
     + data(1, b"question", END_STREAM), FINE),
    ("8.3.1", "host as :authority", BEGIN + headers(1, request(host=b"LocalHost"))
     + data(1, b"question", END_STREAM), FINE),
    ("8.3.1", "host unlike :authority", BEGIN + headers(1, request(host=b"another")),
     Resets(1, PROTOCOL_ERROR)),
    # 8.5 The CONNECT method
    ("8.5", "CONNECT is not served", BEGIN + headers(1, fields((b":method", b"CONNECT"),
                                                               (b":authority", b"x:1"))),
     Resets(1, PROTOCOL_ERROR)),
    # 10.5 Denial-of-service considerations
    ("10.5.1", "more fields than we take",
     BEGIN + headers(1, request(x=bytes(b"a" * 17_000))), Resets(1, ENHANCE_YOUR_CALM)),
    ("10.5.1", "a bomb of fields", BEGIN + headers(1, b"\x40\x01x\x7f\x81\x1e" + b"a" * 3968
                                                   + b"\xbe" * 100), Ends(ENHANCE_YOUR_CALM)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [pytest.param(sent, outcome, id=f"{number} {says}") for number, says, sent, outcome in CASES],
)
def test_section(sent: bytes, outcome: Outcome) -> None:
    client = Client(sink=Echo)
    frames = client.send(sent)
    away = [int.from_bytes(p[4:8], "big") for kind, _, _, p in frames if kind == GOAWAY]
    if isinstance(outcome, Ends):
        assert away == [outcome.code]
        assert client.connection.closing
        assert not client.connection.streams
        return
    assert away == []
    assert not client.connection.closing
    if isinstance(outcome, Resets):
        assert resets_of(frames) == [(outcome.stream_id, outcome.code)]
        # What came behind does not matter: the connection is in order.
        assert payload_of(client.send(call(101)), 101) == b"question"
    else:
        assert resets_of(frames) == []
        assert sorted(client.sinks) == sorted(outcome.bodies)
        for stream_id, body in outcome.bodies.items():
            assert payload_of(frames, stream_id) == body
            assert client.sinks[stream_id].told == ["ended"]


@pytest.mark.parametrize(
    "sent", [data(1, b"x"), headers(1, fields((b"sum", b"1")), WHOLE)], ids=["DATA", "HEADERS"]
)
def test_5_1_what_comes_behind_the_end_of_a_stream_that_is_not_answered(sent: bytes) -> None:
    client = Client().begin()
    client.send(call(1))
    assert client.resets(sent) == [(1, STREAM_CLOSED)]
    assert client.sinks[1].told == ["ended", ("gone", STREAM_CLOSED)]


def test_5_1_2_streams_beyond_the_limit_are_refused() -> None:
    client = Client(Http2Limits(max_concurrent_streams=1)).begin()
    assert client.resets(headers(1), headers(3)) == [(3, REFUSED_STREAM)]


def test_5_4_2_what_comes_for_a_stream_that_we_reset_is_ignored() -> None:
    client = Client().begin()
    client.send(headers(1))
    client.sinks[1].stream.reset(CANCEL)
    client.taken()
    late = data(1, b"late") + window_update(1, 1) + headers(1, fields((b"a", b"1")), WHOLE)
    assert client.send(late + rst_stream(1, NO_ERROR)) == []
    assert not client.connection.closing


def test_6_5_3_settings_hold_from_their_acknowledgement_on() -> None:
    client = Client(sink=Echo).begin()
    frames = client.send(settings({5: 20_000}) + call(1, bytes(20_000)))
    assert frames[0][:2] == (SETTINGS, ACK)
    assert [len(p) for kind, _, _, p in frames if kind == DATA] == [20_000]


def test_6_9_1_more_data_than_the_streams_window() -> None:
    client = Client(Http2Limits(stream_window_bytes=65_535)).begin()
    client.send(headers(1) + data(1, bytes(65_535)))
    assert client.resets(data(1, b"x")) == [(1, FLOW_CONTROL_ERROR)]


def test_6_9_1_more_data_than_the_connections_window() -> None:
    # Our window opens again before a client could overrun it, unless one frame is larger.
    client = Client(Http2Limits(connection_window_bytes=65_535, max_frame_bytes=100_000)).begin()
    assert client.error(headers(1) + data(1, bytes(65_536))) == (
        FLOW_CONTROL_ERROR, b"more DATA than the connection's window",
    )  # fmt: skip


def test_6_9_2_a_window_that_shrinks_below_zero() -> None:
    client = Client().begin(window=100)
    client.send(call(1))
    stream = client.sinks[1].stream
    stream.answer(HEAD_BLOCK, bytes(150), LAST_BLOCK)
    assert len(payload_of(client.taken(), 1)) == 100
    client.send(settings({4: 40}))
    assert stream.window == -60
    assert payload_of(client.send(window_update(1, 60)), 1) == b""
    assert len(payload_of(client.send(window_update(1, 1)), 1)) == 1
    assert len(payload_of(client.send(settings({4: 100})), 1)) == 49


def test_6_9_2_settings_leave_the_connections_window_alone() -> None:
    client = Client().begin(window=0)
    assert client.connection.output.window == 65_535


def test_6_8_streams_behind_the_last_goaway_are_ignored() -> None:
    client = Client(sink=Sink).begin()
    client.send(headers(1))
    client.connection.drain(0.0)
    client.taken()
    last = client.tick(5.0)
    assert last == [(GOAWAY, 0, 0, b"\0\0\0\1" + bytes(4))]
    assert client.send(call(3), rst_stream(3, CANCEL), headers(3, flags=WHOLE)) == []
    assert 3 not in client.sinks
    frames: list[Frame] = client.send(data(1, b"", END_STREAM))
    client.sinks[1].stream.answer(HEAD_BLOCK, b"old", LAST_BLOCK)
    frames = client.taken()
    assert payload_of(frames, 1) == b"old"
    assert client.connection.closing
