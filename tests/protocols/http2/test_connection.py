from inferd.protocols.http2.connection import MAX_CUT_OFF
from inferd.protocols.http2.frames import (
    ACK,
    CANCEL,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    MAX_HEADER_LIST_SIZE,
    NO_ERROR,
    PING,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
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
    Client,
    Echo,
    Sink,
    block_of,
    call,
    data,
    frames_of,
    headers,
    payload_of,
    request,
    resets_of,
    updates_of,
)


def test_a_call_is_answered_by_three_frames() -> None:
    client = Client(sink=Echo).begin()
    frames = client.send(call(1))
    assert [frame[:3] for frame in frames] == [
        (HEADERS, END_HEADERS, 1), (DATA, 0, 1), (HEADERS, END_HEADERS | END_STREAM, 1),
    ]  # fmt: skip
    assert frames[1][3] == b"question"
    assert client.fields(frames[0][3]) == [
        (b":status", b"200"), (b"content-type", b"application/grpc"),
    ]  # fmt: skip
    assert client.fields(frames[2][3]) == [(b"grpc-status", b"0")]
    assert client.connection.open_streams == 0


def test_an_answer_from_outside_is_told_once_and_taken_together() -> None:
    client = Client().begin()
    client.send(call(1), call(3))
    assert client.told == 0
    for stream_id in (1, 3):
        client.sinks[stream_id].stream.answer(HEAD_BLOCK, b"a", LAST_BLOCK)
    assert client.told == 1
    assert len(client.taken()) == 6
    client.send(call(5))
    client.sinks[5].stream.answer(HEAD_BLOCK, b"a", LAST_BLOCK)
    assert client.told == 2


def test_the_same_head_is_the_same_dict() -> None:
    client = Client().begin()
    client.send(call(1), call(3))
    assert client.sinks[1].fields is client.sinks[3].fields
    assert client.sinks[1].fields[b":path"] == b"/package.Service/Method"


def test_a_large_answer_is_cut_by_frame_size_and_windows() -> None:
    client = Client().begin(window=40_000)
    client.send(call(1))
    sink = client.sinks[1]
    sink.stream.answer(HEAD_BLOCK, b"x" * 100_000, LAST_BLOCK)
    first = client.taken()
    assert [len(p) for kind, _, _, p in first if kind == DATA] == [16_384, 16_384, 40_000 - 32_768]
    second = client.send(window_update(1, 60_000))
    assert len(payload_of(second, 1)) == 65_535 - 40_000  # the connection's
    third = client.send(window_update(0, 100_000))
    assert len(payload_of([*first, *second, *third], 1)) == 100_000
    assert third[-1][:3] == (HEADERS, END_HEADERS | END_STREAM, 1)
    assert sink.told == ["ended"]


def test_larger_frames_are_sent_to_those_who_take_them() -> None:
    limits = Http2Limits(send_frame_bytes=30_000)
    client = Client(limits, Echo).begin(frame_bytes=20_000)
    assert max(len(p) for _, _, _, p in client.send(call(1, b"x" * 50_000))) == 20_000
    client = Client(limits, Echo).begin(frame_bytes=60_000)
    assert max(len(p) for _, _, _, p in client.send(call(1, b"x" * 50_000))) == 30_000


def test_streams_take_turns_by_the_frame() -> None:
    client = Client().begin(window=1_000_000)
    client.send(window_update(0, 1_000_000), call(1), call(3), call(5))
    for stream_id, size in ((1, 200_000), (3, 40_000), (5, 10)):
        client.sinks[stream_id].stream.answer(HEAD_BLOCK, bytes(size), LAST_BLOCK)
    order = [sid for kind, _, sid, _ in client.taken() if kind == DATA]
    assert order[:6] == [1, 3, 5, 1, 3, 1]


def test_a_stream_with_a_shut_window_holds_up_nobody() -> None:
    client = Client(sink=Echo).begin(window=10)
    client.send(call(1, b"x" * 50))
    assert payload_of(client.send(call(3, b"short")), 3) == b"short"


def test_what_waits_is_told_when_it_has_gone() -> None:
    client = Client(Http2Limits(high_water=1000)).begin(window=100)
    client.send(headers(1))
    sink = client.sinks[1]
    sink.stream.send_head(HEAD_BLOCK)
    assert sink.stream.send(bytes(1000))
    assert not sink.stream.send(bytes(1))
    client.send(window_update(1, 900))
    assert sink.told == []
    client.send(window_update(1, 1))
    assert sink.told == ["writable"]
    assert sink.stream.send(b"")
    assert client.connection.output.queued == 0


def test_while_the_transport_is_full_data_waits() -> None:
    client = Client().begin()
    client.send(headers(1))
    sink = client.sinks[1]
    client.connection.pause()
    assert not sink.stream.send(b"later")
    assert payload_of(client.taken(), 1) == b""
    before = client.told
    client.connection.resume()
    assert client.told == before + 1
    assert payload_of(client.taken(), 1) == b"later"
    assert sink.told == ["writable"]


def test_only_so_much_goes_to_the_transport_at_a_time() -> None:
    client = Client(Http2Limits(turn_bytes=50_000)).begin(window=1_000_000)
    client.send(window_update(0, 1_000_000), call(1))
    client.sinks[1].stream.answer(HEAD_BLOCK, bytes(200_000), LAST_BLOCK)
    once = frames_of(b"".join(client.connection.take()))
    assert 50_000 <= len(payload_of(once, 1)) < 50_000 + 16_384
    assert client.connection.has_more
    assert len(payload_of([*once, *client.taken()], 1)) == 200_000


def test_a_refusal_is_headers_and_a_reset_if_the_client_goes_on_sending() -> None:
    client = Client().begin()
    client.send(headers(1), call(3))
    client.sinks[1].stream.refuse(LAST_BLOCK)
    client.sinks[3].stream.refuse(LAST_BLOCK)
    frames = client.taken()
    assert [(kind, flags, sid) for kind, flags, sid, _ in frames] == [
        (HEADERS, END_HEADERS | END_STREAM, 1), (RST_STREAM, 0, 1),
        (HEADERS, END_HEADERS | END_STREAM, 3),
    ]  # fmt: skip
    assert resets_of(frames) == [(1, NO_ERROR)]
    assert client.send(data(1, b"on its way")) == []
    assert client.sinks[1].told == []
    assert client.sinks[1].body == b""


def test_a_refusal_while_accepting() -> None:
    class Refusing(Sink):
        def __init__(self, stream, fields) -> None:  # type: ignore[no-untyped-def]
            super().__init__(stream, fields)
            stream.refuse(LAST_BLOCK)

    client = Client(sink=Refusing).begin()
    assert resets_of(client.send(headers(1, request(), END_HEADERS | END_STREAM))) == []
    assert client.sinks[1].told == []
    assert resets_of(client.send(headers(3))) == [(3, NO_ERROR)]


def test_both_sides_may_reset() -> None:
    client = Client().begin()
    client.send(headers(1), headers(3))
    client.send(rst_stream(1, CANCEL))
    assert client.sinks[1].told == [("gone", CANCEL)]
    client.sinks[3].stream.reset(2)
    assert resets_of(client.taken()) == [(3, 2)]
    assert client.sinks[3].told == [("gone", 2)]
    client.sinks[1].stream.answer(HEAD_BLOCK, b"late", LAST_BLOCK)
    assert client.taken() == []


def test_a_lost_connection_is_told_to_every_stream() -> None:
    client = Client().begin()
    client.send(headers(1), call(3))
    client.connection.lost()
    assert client.sinks[1].told == [("gone", CANCEL)]
    assert client.sinks[3].told == ["ended", ("gone", CANCEL)]
    assert not client.connection.busy


def test_a_sink_that_raises_costs_its_stream_alone() -> None:
    class Broken(Sink):
        def data(self, chunk: memoryview | bytes) -> None:
            raise ValueError("broken")

    client = Client(sink=Broken).begin()
    assert client.resets(call(1)) == [(1, 2)]
    assert client.sinks[1].told == [("gone", 2)]


def test_an_accept_that_raises_costs_its_stream_alone() -> None:
    def broken(stream: object, fields: object) -> Sink:
        raise ValueError("broken")

    client = Client(sink=broken).begin()
    assert client.resets(headers(1)) == [(1, 2)]
    assert client.connection.open_streams == 0


def test_what_is_consumed_opens_the_streams_window_by_halves() -> None:
    client = Client(Http2Limits(stream_window_bytes=65_536)).begin()
    client.send(headers(1))
    stream = client.sinks[1].stream
    for _ in range(3):
        client.send(data(1, bytes(10_000)))
        stream.consumed(10_000)
    assert updates_of(client.taken()) == []
    client.send(data(1, bytes(10_000)))
    stream.consumed(10_000)
    assert updates_of(client.taken()) == [(1, 40_000)]
    client.send(data(1, b"", END_STREAM))
    stream.consumed(40_000)
    assert updates_of(client.taken()) == []


def test_the_connections_window_opens_by_itself() -> None:
    client = Client(Http2Limits(connection_window_bytes=100_000)).begin()
    client.send(headers(1))
    found = [u for _ in range(6) for u in updates_of(client.send(data(1, bytes(10_000))))]
    assert found == [(0, 60_000)]


def test_padding_is_given_back_at_once() -> None:
    client = Client(Http2Limits(stream_window_bytes=65_536)).begin()
    client.send(headers(1))
    padded = frame(DATA, 0x8, 1, bytes((255,)) + b"payload" + bytes(255))
    frames = [f for _ in range(128) for f in client.send(padded)]
    assert client.sinks[1].body == b"payload" * 128
    assert [more for sid, more in updates_of(frames) if sid == 1] == [128 * 256]


def test_more_streams_than_allowed_are_refused() -> None:
    client = Client(Http2Limits(max_concurrent_streams=2)).begin()
    assert client.resets(headers(1), headers(3), headers(5)) == [(5, REFUSED_STREAM)]
    client.sinks[1].stream.refuse(LAST_BLOCK)
    client.taken()
    assert client.resets(headers(7)) == []
    assert client.send(data(5, b"meanwhile")) == []


def test_no_stream_is_taken_while_too_much_waits() -> None:
    client = Client(Http2Limits(max_queued_bytes=1000), Echo).begin(window=0)
    client.send(call(1, bytes(1001)))
    assert client.resets(call(3)) == [(3, REFUSED_STREAM)]


def test_trailers_of_a_client_end_its_stream() -> None:
    client = Client(sink=Echo).begin()
    trailers = encode_block([(b"checksum", b"1")])
    frames = client.send(
        headers(1), data(1, b"body"), headers(1, trailers, END_HEADERS | END_STREAM)
    )
    assert payload_of(frames, 1) == b"body"
    assert client.sinks[1].told == ["ended"]


def test_a_smaller_table_of_the_clients_is_said_once() -> None:
    client = Client(sink=Echo).begin(table_bytes=0)
    client.decoder.max_allowed_table_size = 0
    blocks = block_of(client.send(call(1), call(3)), 1)
    assert client.fields(blocks[0])[0] == (b":status", b"200")
    assert blocks[0][:1] == b"\x20"
    assert blocks[1][:1] != b"\x20"


def test_a_long_block_is_continued() -> None:
    client = Client().begin()
    client.send(call(1))
    long = encode_block([(b"grpc-status", b"2"), (b"grpc-message", b"x" * 40_000)])
    client.sinks[1].stream.refuse(long)
    frames = client.taken()
    assert [len(p) for _, _, _, p in frames][:2] == [16_384, 16_384]
    assert len(frames) == 3
    assert frames[0][1] == END_STREAM
    assert frames[2][1] == END_HEADERS
    assert block_of(frames, 1) == [long]


def test_a_client_with_larger_frames_gets_a_long_block_in_one() -> None:
    client = Client().begin(frame_bytes=50_000)
    client.send(call(1))
    client.sinks[1].stream.refuse(encode_block([(b"grpc-message", b"x" * 40_000)]))
    assert [kind for kind, *_ in client.taken()] == [HEADERS]


def test_what_the_client_takes_of_fields_is_known() -> None:
    client = Client().begin()
    client.send(settings({MAX_HEADER_LIST_SIZE: 8192}))
    assert client.connection.peer_header_list_bytes == 8192


def test_settings_and_pings_are_acknowledged() -> None:
    client = Client().begin()
    assert client.send(frame(PING, 0, 0, b"12345678")) == [(PING, ACK, 0, b"12345678")]
    assert client.send(frame(SETTINGS, 0, 0)) == [(SETTINGS, ACK, 0, b"")]


def test_our_settings_come_behind_the_clients_preface() -> None:
    client = Client()
    assert client.taken() == []
    frames = client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert [kind for kind, *_ in frames] == [SETTINGS, WINDOW_UPDATE]


def test_what_comes_behind_an_answer_that_waits_is_not_told() -> None:
    client = Client().begin(window=0)
    client.send(headers(1))
    sink = client.sinks[1]
    sink.stream.answer(HEAD_BLOCK, b"early", LAST_BLOCK)
    frames = client.send(data(1, b"more", END_STREAM), window_update(1, 5))
    assert (sink.body, sink.told) == (b"", [])
    assert resets_of(frames) == []  # the client had sent all by then


def test_a_drain_ends_with_a_stream_that_the_client_resets() -> None:
    client = Client().begin()
    client.send(headers(1))
    client.connection.drain(0.0)
    client.tick(5.0)
    client.send(rst_stream(1, CANCEL))
    assert client.connection.closing


def test_data_for_a_stream_that_was_refused_is_a_flood_only_where_it_is_empty() -> None:
    client = Client(Http2Limits(idle_frames=(50, 0))).begin()
    client.send(headers(1))
    client.sinks[1].stream.refuse(LAST_BLOCK)
    for _ in range(100):
        assert client.error(data(1, b"on its way")) is None
    assert any(client.error(data(1)) for _ in range(100))


def test_only_so_many_streams_that_were_broken_off_are_remembered() -> None:
    client = Client().begin()
    for stream_id in range(1, 2 * MAX_CUT_OFF + 9, 2):
        client.send(headers(stream_id))
        client.sinks[stream_id].stream.reset(CANCEL)
    client.taken()
    assert client.resets(data(33, b"x")) == []
    assert client.resets(data(1, b"x")) != []
