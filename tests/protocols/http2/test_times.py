import pytest

from inferd.protocols.http2.frames import (
    ACK,
    CANCEL,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    MAX_ID,
    NO_ERROR,
    PING,
    PREFACE,
    SETTINGS,
    SETTINGS_TIMEOUT,
    frame,
    settings,
    window_update,
)
from inferd.protocols.http2.limits import Http2Limits
from protocols.http2.client import (
    HEAD_BLOCK,
    LAST_BLOCK,
    Client,
    Frame,
    call,
    headers,
    payload_of,
    resets_of,
)


def aways(frames: list[Frame]) -> list[tuple[int, int, bytes]]:
    """GOAWAYs: last stream, code, text."""
    return [
        (int.from_bytes(p[:4], "big"), int.from_bytes(p[4:8], "big"), p[8:])
        for kind, _, _, p in frames
        if kind == GOAWAY
    ]


@pytest.mark.parametrize("sent", [b"", PREFACE[:10], PREFACE], ids=["nothing", "half", "preface"])
def test_a_preface_must_come_in_time(sent: bytes) -> None:
    client = Client()
    client.send(sent)
    client.tick(10.0)
    assert not client.connection.closing
    assert aways(client.tick(10.1))[0][1] == SETTINGS_TIMEOUT
    assert client.connection.closing


def test_settings_must_be_acknowledged_in_time() -> None:
    client = Client()
    client.now_s = 5.0
    client.send(PREFACE + settings({}))
    assert client.tick(15.0) == []
    assert aways(client.tick(15.1))[0][1] == SETTINGS_TIMEOUT


def test_a_header_block_must_end_in_time() -> None:
    client = Client().begin()
    client.send(headers(1, flags=0))
    for n in range(1, 10):
        client.now_s = float(n)
        client.send(frame(9, 0, 1, b"\x82"))
        assert client.tick(float(n)) == []
    assert aways(client.tick(10.1))[0][1] == ENHANCE_YOUR_CALM


def test_a_frame_must_go_on_coming() -> None:
    client = Client().begin()
    for n in range(8):
        client.now_s = 5.0 * n
        client.send(frame(PING, 0, 0, bytes(8))[n : n + 1])
        assert client.tick(5.0 * n + 4) == []
    assert aways(client.tick(46.0))[0][1] == ENHANCE_YOUR_CALM


def test_an_idle_connection_is_asked_to_leave() -> None:
    client = Client(Http2Limits(idle_s=100.0, keep_alive_s=0.0)).begin()
    client.tick(50.0)
    client.send(call(1))
    client.tick(60.0)
    client.sinks[1].stream.answer(HEAD_BLOCK, b"", LAST_BLOCK)
    client.taken()
    assert client.tick(160.0) == []
    frames = client.tick(160.1)
    assert aways(frames) == [(MAX_ID, NO_ERROR, b"")]
    client.send(frame(PING, ACK, 0, frames[-1][3]))
    assert client.connection.closing


def test_a_connection_with_a_stream_is_not_idle() -> None:
    client = Client(Http2Limits(idle_s=100.0, keep_alive_s=0.0)).begin()
    client.send(headers(1))
    assert [client.tick(50.0 * n) for n in range(50)] == [[]] * 50


def test_a_drain_waits_for_the_clients_word_or_a_moment() -> None:
    client = Client().begin()
    client.send(headers(1))
    client.connection.drain(100.0)
    assert client.told == 1
    frames = client.taken()
    assert aways(frames) == [(MAX_ID, NO_ERROR, b"")]
    assert frames[-1][:2] == (PING, 0)
    client.send(call(3))  # was on its way
    assert client.tick(100.9) == []
    assert aways(client.tick(101.1)) == [(3, NO_ERROR, b"")]
    for stream_id in (1, 3):
        assert client.connection.busy
        client.sinks[stream_id].stream.answer(HEAD_BLOCK, b"a", LAST_BLOCK)
    assert client.connection.closing
    assert not client.connection.busy
    assert payload_of(client.taken(), 3) == b"a"


def test_a_drain_of_a_connection_that_is_idle_is_busy_until_it_is_known_to_be() -> None:
    client = Client().begin()
    client.connection.drain(0.0)
    (_, ping) = client.taken()
    assert client.connection.busy
    client.send(frame(PING, ACK, 0, ping[3]))
    assert not client.connection.busy
    assert client.connection.closing


def test_a_drain_before_the_preface_closes() -> None:
    client = Client()
    client.connection.drain(0.0)
    assert client.connection.closing
    assert client.told == 1


def test_a_drain_that_is_asked_for_twice_is_one() -> None:
    client = Client().begin()
    client.connection.drain(0.0)
    client.taken()
    client.connection.drain(1.0)
    assert client.taken() == []


def test_a_silent_client_is_pinged_and_left() -> None:
    client = Client().begin()
    client.send(headers(1))
    client.tick(300.0)
    (ping,) = client.tick(300.1)
    assert ping[:2] == (PING, 0)
    assert client.tick(320.0) == []
    assert aways(client.tick(320.2))[0][1] == NO_ERROR
    assert client.sinks[1].told == [("gone", CANCEL)]


def test_a_client_that_answers_pings_stays() -> None:
    client = Client().begin()
    client.send(headers(1))
    for n in range(1, 20):
        (ping,) = client.tick(301.0 * n)
        client.send(frame(PING, ACK, 0, ping[3]))
        assert client.tick(301.0 * n + 30) == []


def test_a_client_that_takes_nothing_from_a_full_socket_is_left() -> None:
    client = Client().begin()
    client.send(headers(1))
    client.connection.pause()
    client.tick(100.0)
    client.connection.resume()
    client.connection.pause()
    client.tick(150.0)
    client.tick(210.0)
    assert not client.connection.closing
    client.tick(210.1)
    assert client.connection.closing
    assert client.sinks[1].told[0][0] == "gone"


def test_an_answer_whose_window_stays_shut_is_given_up() -> None:
    client = Client(Http2Limits(stall_s=100.0, keep_alive_s=0.0)).begin(window=10)
    client.send(call(1), call(3))
    client.sinks[1].stream.answer(HEAD_BLOCK, bytes(30), LAST_BLOCK)
    client.tick(50.0)
    client.send(window_update(1, 5))  # goes on, slowly
    client.tick(120.0)
    assert client.tick(220.0) == []
    assert resets_of(client.tick(220.1)) == [(1, CANCEL)]
    assert client.sinks[1].told == ["ended", ("gone", CANCEL)]
    assert client.sinks[3].told == ["ended"]
    assert client.connection.output.queued == 0


def test_an_old_connection_is_asked_to_leave_and_given_grace() -> None:
    client = Client(Http2Limits(max_age_s=100.0, max_age_grace_s=20.0)).begin()
    client.send(headers(1))
    assert client.tick(100.0) == []
    assert aways(client.tick(100.1)) == [(MAX_ID, NO_ERROR, b"")]
    client.tick(102.0)
    assert client.tick(120.1) == []
    assert aways(client.tick(120.2)) == [(1, NO_ERROR, b"max_age")]
    assert client.connection.closing
    assert client.sinks[1].told == [("gone", CANCEL)]


def test_age_is_no_reason_by_default() -> None:
    client = Client(Http2Limits(keep_alive_s=0.0)).begin()
    client.send(headers(1))
    assert client.tick(1e7) == []


def test_settings_later_than_the_preface_are_not_waited_for() -> None:
    client = Client().begin()
    assert client.send(settings({}))[0][:2] == (SETTINGS, ACK)
    assert client.tick(60.0) == []
