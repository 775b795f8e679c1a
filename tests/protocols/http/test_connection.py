import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.protocols.http.reader import HttpLimits
from protocols.http.harness import Wire, cut, request

# -- in order -------------------------------------------------------------------------------------


def test_a_request_is_answered_and_the_connection_kept() -> None:
    wire = Wire()
    wire.feed(request("/now", b"body", x_mark="7"))
    (answer,) = wire.answers()
    assert (answer.status, answer.body) == (200, b"POST /now 7 body")
    assert answer.headers["content-type"] == "text/plain"
    assert not answer.closes
    assert not wire.transport.ended
    assert wire.listener.responses == {200: 1}


def test_pipelined_requests_are_answered_in_order_though_later_ones_are_ready_first() -> None:
    wire = Wire()
    wire.feed(request("/slow") + request("/now") + request("/slow2"))
    assert [exchange.request.head.target for exchange in wire.route.started] == [b"/slow"]
    assert wire.bodies() == []
    wire.route.started[0].answer()
    assert wire.bodies() == [b"POST /slow  ", b"POST /now  "]
    wire.route.started[2].answer()
    assert wire.bodies()[2] == b"POST /slow2  "


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.lists(st.sampled_from(["/now", "/slow"]), min_size=1, max_size=40),
    st.lists(st.integers(0, 10_000), max_size=20),
    st.lists(st.booleans(), max_size=40),
)
def test_however_it_is_cut_each_request_has_its_answer_in_order(
    targets: list[str], points: list[int], early: list[bool]
) -> None:
    wire = Wire()
    data = b"".join(
        request(target, b"body %d" % number, x_mark=str(number))
        for number, target in enumerate(targets)
    )
    answered = 0
    waiting = list(early)
    for piece in cut(data, points):
        wire.feed(piece)
        while waiting and waiting.pop() and answered < len(wire.route.started):
            if wire.route.started[answered].request.head.target == b"/slow":
                wire.route.started[answered].answer()
            answered += 1
    for _ in targets:
        while answered < len(wire.route.started):
            if wire.route.started[answered].request.head.target == b"/slow":
                wire.route.started[answered].answer()
            answered += 1
    assert wire.bodies() == [
        f"POST {target} {number} body {number}".encode() for number, target in enumerate(targets)
    ]
    assert not wire.connection.busy


def test_what_came_before_a_malformed_request_is_answered_before_it_is_refused() -> None:
    wire = Wire()
    wire.feed(request("/slow") + request("/now") + b"\x00nonsense\r\n\r\n")
    assert wire.statuses() == []
    wire.route.started[0].answer()
    assert wire.statuses() == [200, 200, 400]
    assert wire.answers()[2].closes
    assert wire.transport.ended


def test_what_came_before_a_malformed_request_is_answered_though_the_client_reads_slowly() -> None:
    wire = Wire()
    wire.connection.pause_writing()
    wire.feed(request("/now") + b"\x00nonsense\r\n\r\n")
    wire.connection.resume_writing()
    assert wire.statuses() == [200, 400]


def test_a_refusal_is_one_error_in_json_and_the_end() -> None:
    wire = Wire(limits=HttpLimits(max_body_bytes=10))
    wire.feed(b"POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n")
    (answer,) = wire.answers()
    assert (answer.status, answer.headers["content-type"]) == (413, "application/json")
    assert b"maximum allowed input size of 10 bytes" in answer.body
    assert answer.closes
    wire.feed(b"12345678901", request("/now"))
    assert wire.statuses() == [413]
    assert wire.listener.responses[413] == 1


def test_the_refusal_of_an_upload_leaves_the_client_time_to_read_it() -> None:
    wire = Wire(limits=HttpLimits(max_body_bytes=10))
    wire.feed(b"POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n")
    assert wire.transport.eof, "nothing more comes from us"
    assert not wire.transport.closing, "closing now would throw the answer away"


# -- keep-alive and close -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "headers", "closes"),
    [
        ("1.1", {}, False),
        ("1.1", {"connection": "keep-alive"}, False),
        ("1.1", {"connection": "close"}, True),
        ("1.0", {}, True),
        ("1.0", {"connection": "keep-alive"}, True),
    ],
)
def test_a_connection_lives_as_long_as_its_client_wants(
    version: str, headers: dict[str, str], closes: bool
) -> None:
    wire = Wire()
    wire.feed(request("/now", b"x", version=version, **headers))
    assert [answer.closes for answer in wire.answers()] == [closes]
    assert wire.transport.ended is closes


def test_nothing_is_answered_after_a_request_to_close() -> None:
    wire = Wire()
    wire.feed(request("/now", connection="close"), request("/now"))
    assert wire.statuses() == [200]


def test_a_draining_listener_answers_what_it_has_and_closes() -> None:
    wire = Wire()
    wire.feed(request("/slow"))
    wire.listener.drain()
    assert not wire.transport.ended, "a request is being answered"
    wire.route.started[0].answer()
    assert wire.answers()[0].closes
    assert wire.transport.ended


def test_a_draining_listener_closes_idle_connections_at_once() -> None:
    wire = Wire()
    wire.feed(request("/now"))
    wire.listener.drain()
    assert wire.transport.closing


def test_head_is_answered_without_a_body() -> None:
    wire = Wire()
    wire.feed(request("/now", method="HEAD") + request("/now", method="GET"))
    head, get = wire.answers(heads_only=1)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(b"HEAD /now  "))
    assert get.body == b"GET /now  "


# -- expect and upgrade ---------------------------------------------------------------------------


def test_a_client_that_waits_is_told_to_go_on_once() -> None:
    wire = Wire()
    data = request("/now", b"abc", expect="100-continue")
    wire.feed(data[:-3])
    assert wire.statuses() == [100]
    wire.feed(data[-3:-1], data[-1:])
    assert wire.statuses() == [100, 200]


def test_a_client_that_does_not_wait_is_not_told_to_go_on() -> None:
    wire = Wire()
    wire.feed(request("/now", b"abc", expect="100-continue"))
    assert wire.statuses() == [200]


def test_a_client_whose_body_is_refused_is_not_told_to_go_on() -> None:
    wire = Wire(limits=HttpLimits(max_body_bytes=2))
    wire.feed(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert wire.statuses() == [413]


def test_a_client_that_waits_behind_another_request_is_told_to_go_on_in_its_turn() -> None:
    wire = Wire()
    wire.feed(request("/slow"), request("/now", b"abc", expect="100-continue")[:-3])
    assert wire.statuses() == []
    wire.route.started[0].answer()
    assert wire.statuses() == [200, 100]


def test_an_upgrade_is_answered_as_it_stands_and_the_connection_closed() -> None:
    wire = Wire()
    wire.feed(request("/now", method="GET", connection="upgrade", upgrade="websocket") + b"\x81")
    assert [answer.closes for answer in wire.answers()] == [True]
    assert wire.transport.ended
