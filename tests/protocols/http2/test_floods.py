from collections.abc import Iterator

import pytest

from inferd.protocols.http2.floods import Bucket, PingStrikes
from inferd.protocols.http2.frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    PADDED,
    PING,
    PRIORITY,
    SETTINGS,
    frame,
    rst_stream,
    settings,
    window_update,
)
from inferd.protocols.http2.limits import Http2Limits
from protocols.http2.client import LAST_BLOCK, Client, Echo, call, data, headers, request


def test_a_bucket_fills_up_with_time() -> None:
    bucket = Bucket((3, 2), 10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    bucket = Bucket((3, 2), 10.0)
    assert [bucket.take(10.0) for _ in range(3)] == [True] * 3
    assert [bucket.take(10.5), bucket.take(10.5)] == [True, False]
    bucket = Bucket((3, 2), 0.0)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]
    bucket.give(100)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_pings_that_come_too_soon_are_strikes_until_something_is_sent() -> None:
    strikes = PingStrikes(300.0, 2)
    assert [strikes.ping(t) for t in (0.0, 1.0, 2.0, 3.0)] == [True, True, True, False]
    strikes.forgive()
    assert [strikes.ping(t) for t in (4.0, 5.0, 6.0)] == [True] * 3
    patient = PingStrikes(300.0, 2)
    assert all(patient.ping(300.0 * n) for n in range(10))


def resets(n: int) -> bytes:
    return headers(2 * n + 1) + rst_stream(2 * n + 1, CANCEL)


def refusals(n: int) -> bytes:
    """Streams that we reset, for the client's fault."""
    return headers(2 * n + 1, request(te=b"gzip"))


def overruns(n: int) -> bytes:
    return headers(2 * n + 1) + window_update(2 * n + 1, 0)


FLOODS = {
    "streams that the client resets": ({"resets": (50, 0)}, resets),
    "streams that are malformed": ({"resets": (50, 0)}, refusals),
    "streams that are reset for what comes on them": ({"resets": (50, 0)}, overruns),
    "SETTINGS": ({"settings": (50, 0)}, lambda n: settings({})),
    "acknowledgements of SETTINGS": ({"idle_frames": (50, 0)}, lambda n: frame(SETTINGS, ACK, 0)),
    "acknowledgements of PING": ({"idle_frames": (50, 0)}, lambda n: frame(PING, ACK, 0, bytes(8))),
    "PING": ({"pings": (50, 0), "min_ping_interval_s": 0.0},
             lambda n: frame(PING, 0, 0, bytes(8))),
    "PRIORITY": ({"idle_frames": (50, 0)}, lambda n: frame(PRIORITY, 0, 1, bytes(5))),
    "PRIORITY_UPDATE": ({"idle_frames": (50, 0)}, lambda n: frame(0x10, 0, 0, bytes(9))),
    "unknown frames": ({"idle_frames": (50, 0)}, lambda n: frame(0xEE, 0, 0)),
    "WINDOW_UPDATE": ({"window_updates": (50, 0)}, lambda n: window_update(0, 1)),
    "empty DATA": ({"empty_frames": (50, 0)}, lambda n: (b"" if n else headers(1)) + data(1)),
    "DATA that is all padding": ({"empty_frames": (50, 0)}, lambda n: (b"" if n else headers(1))
                                 + data(1, b"\x01\0", PADDED)),
    "empty CONTINUATION": ({"empty_frames": (50, 0)}, lambda n: headers(1, flags=0) if not n else
                           frame(CONTINUATION, 0, 1)),
}  # fmt: skip


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_ends_the_connection(flood: str) -> None:
    limits, one = FLOODS[flood]
    client = Client(Http2Limits(**limits)).begin()  # type: ignore[arg-type]
    for n in range(60):
        error = client.error(one(n))
        if error is not None:
            assert error[0] == ENHANCE_YOUR_CALM
            assert n in (49, 50, 51)  # `begin` has sent one of some, and begun with one of others
            assert not client.connection.streams
            return
    pytest.fail("nothing ends it")


@pytest.mark.parametrize("flood", FLOODS)
def test_as_many_in_more_time_are_none(flood: str) -> None:
    limits, one = FLOODS[flood]
    slow = {
        name: (value[0], 1) if isinstance(value, tuple) else value
        for name, value in limits.items()
    }  # fmt: skip
    client = Client(Http2Limits(**slow, block_timeout_s=1e9)).begin()  # type: ignore[arg-type]
    for n in range(200):
        client.now_s += 1.0
        assert client.error(one(n)) is None


def test_a_header_block_without_end() -> None:
    client = Client(Http2Limits(max_header_list_bytes=4096)).begin()

    def parts() -> Iterator[bytes]:
        yield headers(1, flags=0)
        while True:
            yield frame(CONTINUATION, 0, 1, bytes(1000))

    sent = 0
    for part in parts():
        error = client.error(part)
        if error:
            break
        sent += len(part)
    assert error == (ENHANCE_YOUR_CALM, b"a header block that does not end")
    assert sent < 2 * 4096 + 1100


def test_answers_forgive_resets_and_window_updates() -> None:
    client = Client(Http2Limits(resets=(3, 0), window_updates=(3, 0)), Echo).begin()
    for n in range(50):
        stream_id = 4 * n + 1
        assert client.error(call(stream_id), headers(stream_id + 2)) is None
        assert client.error(rst_stream(stream_id + 2, CANCEL), window_update(0, 8)) is None


def test_a_client_that_asks_and_does_not_read() -> None:
    client = Client(Http2Limits(max_backlog_frames=20, min_ping_interval_s=0)).begin()
    client.connection.pause()
    for _ in range(30):
        client.connection.receive(frame(PING, 0, 0, bytes(8)), 0.0)
    assert client.connection.closing
    assert client.connection.output.backlog < 25


# -- pings as gRPC's servers count them ----------------------------------------------------------


def ping(client: Client, now_s: float) -> tuple[int, bytes] | None:
    client.now_s = now_s
    return client.error(frame(PING, 0, 0, b"keep-ali"))


def test_too_many_pings() -> None:
    client = Client().begin()
    assert [ping(client, 10.0 * n) for n in range(1, 5)] == [
        None, None, None, (ENHANCE_YOUR_CALM, b"too_many_pings"),
    ]  # fmt: skip


def test_pings_between_answers_are_welcome() -> None:
    client = Client(sink=Echo).begin()
    for n in range(100):
        client.send(call(2 * n + 1))
        assert ping(client, 0.1 * n) is None
        assert ping(client, 0.1 * n + 0.05) is None


def test_what_is_sent_of_a_stream_forgives_pings() -> None:
    client = Client().begin()
    client.send(call(1))
    stream = client.sinks[1].stream
    for n in range(20):
        assert ping(client, 1.0 * n) is None
        stream.send(b"piece")
        client.taken()
    stream.finish(LAST_BLOCK)
    assert END_HEADERS & client.taken()[-1][1]
