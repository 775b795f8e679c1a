"""A connection that is handed over to another protocol."""

from inferd.protocols.http.connection import Handler, HttpConnection
from inferd.protocols.http.request import HttpRequest, RequestHead
from protocols.http.harness import Echo, Wire, request

ASKS = request("/other", method="GET", connection="upgrade", upgrade="other")
ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\n\r\n"


class Recorder:
    """A Tunnel that writes down what it is told."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.busy = False
        self.lost_count = 0
        self.drained = 0
        self.caught_up_count = 0

    def receive(self, data: bytes) -> None:
        self.received.append(data)

    def caught_up(self) -> None:
        self.caught_up_count += 1

    def lost(self) -> None:
        self.lost_count += 1

    def drain(self) -> None:
        self.drained += 1


class Upgrading(Echo):
    """`/other` is upgraded, all else is echoed."""

    def __init__(self) -> None:
        super().__init__()
        self.tunnel = Recorder()

    def __call__(self, head: RequestHead) -> Handler:
        return self.upgrade if head.target == b"/other" else super().__call__(head)

    def upgrade(self, connection: HttpConnection, request: HttpRequest) -> None:
        connection.upgrade(self.tunnel, ANSWER)


def opened() -> tuple[Upgrading, Wire]:
    route = Upgrading()
    return route, Wire(route)


def test_all_that_comes_behind_an_upgrade_is_the_tunnels() -> None:
    route, wire = opened()
    wire.feed(ASKS + b"early", b"GET / HTTP/1.1\r\n\r\n", b"\x00")
    assert bytes(wire.transport.sent) == ANSWER
    assert route.tunnel.received == [b"early", b"GET / HTTP/1.1\r\n\r\n", b"\x00"]
    assert wire.listener.responses[101] == 1


def test_an_upgrade_waits_for_the_answers_before_it() -> None:
    route, wire = opened()
    wire.feed(request("/later") + ASKS)
    assert not wire.transport.sent
    route.started[0].answer()
    assert wire.transport.sent.endswith(ANSWER)
    wire.feed(b"mine")
    assert route.tunnel.received == [b"mine"]


def test_it_is_not_closed_as_idle_and_hears_of_the_drain() -> None:
    route, wire = opened()
    wire.feed(ASKS)
    route.tunnel.busy = True
    assert wire.connection.busy
    wire.listener.drain()
    assert route.tunnel.drained == 1
    assert not wire.transport.closing


def test_it_hears_that_the_client_has_left() -> None:
    route, wire = opened()
    wire.feed(ASKS)
    wire.leave()
    assert route.tunnel.lost_count == 1


def test_nothing_is_read_while_it_holds() -> None:
    _, wire = opened()
    wire.feed(ASKS)
    for held in (True, False, True):
        wire.connection.hold(held)
        assert wire.transport.reading is not held


def test_it_hears_that_a_slow_client_has_caught_up() -> None:
    route, wire = opened()
    wire.feed(ASKS)
    wire.connection.pause_writing()
    assert wire.connection.is_stuck
    wire.feed(b"still read")
    assert route.tunnel.received == [b"still read"]
    wire.connection.resume_writing()
    assert not wire.connection.is_stuck
    assert route.tunnel.caught_up_count == 1


def test_an_upgrade_that_nobody_wants_is_answered_as_it_stands_and_closes() -> None:
    _, wire = opened()
    wire.feed(request("/now", method="GET", connection="upgrade", upgrade="h2c") + b"more")
    (answer,) = wire.answers()
    assert answer.status == 200
    assert answer.closes
