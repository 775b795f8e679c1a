"""A connection without a socket, a route whose answers say what they were asked, and a reader of
what came back."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from fakes import FakeTransport
from inferd.protocols.http.connection import Handler, HttpConnection
from inferd.protocols.http.listener import HttpListener
from inferd.protocols.http.reader import HttpLimits
from inferd.protocols.http.request import HttpRequest, RequestHead


@dataclass
class Answer:
    """One answer as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


def answers(sent: bytes, heads_only: int = 0) -> list[Answer]:
    """Every answer in `sent`; the first `heads_only` have no body though they give its length."""
    found: list[Answer] = []
    rest = bytes(sent)
    while rest:
        head, separator, rest = rest.partition(b"\r\n\r\n")
        assert separator, f"no whole head: {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("content-length", "0"))
        if len(found) < heads_only or status == "100":
            length = 0
        assert len(rest) >= length, "the body is shorter than its length"
        body, rest = rest[:length], rest[length:]
        found.append(Answer(int(status), headers, body))
    return found


class EchoExchange:
    """A request that is answered when the test says so."""

    def __init__(self, connection: HttpConnection, request: HttpRequest) -> None:
        self.connection = connection
        self.request = request
        self.cancelled = 0

    def answer(self, size: int = 0) -> None:
        self.connection.respond(200, echo(self.request) + b"." * size, b"text/plain")

    def cancel(self) -> None:
        self.cancelled += 1


def echo(request: HttpRequest) -> bytes:
    """What the Echo route answers: method, target, a header, body."""
    head = request.head
    mark = head.fields.get(b"x-mark", b"")
    return b"%b %b %b %b" % (head.method, head.target, mark, request.body)


@dataclass
class Echo:
    """A Route: `/now...` is answered at once, all else when the test says so."""

    started: list[EchoExchange] = field(default_factory=list)
    routed: list[RequestHead] = field(default_factory=list)

    def __call__(self, head: RequestHead) -> Handler:
        self.routed.append(head)
        return self.now if head.target.startswith(b"/now") else self.later

    def now(self, connection: HttpConnection, request: HttpRequest) -> None:
        self.later(connection, request).answer()

    def later(self, connection: HttpConnection, request: HttpRequest) -> EchoExchange:
        exchange = EchoExchange(connection, request)
        self.started.append(exchange)
        return exchange


class Wire:
    """One connection of a listener, seen from the client's end."""

    def __init__(
        self,
        route: Callable[[RequestHead], Handler] | None = None,
        listener: HttpListener | None = None,
        limits: HttpLimits | None = None,
    ) -> None:
        self.route = Echo()
        self.listener = listener or HttpListener(route or self.route, limits or HttpLimits())
        self.transport = FakeTransport()
        self.connection = HttpConnection(self.listener)
        self.connection.connection_made(self.transport)

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)

    def leave(self) -> None:
        """The client goes away."""
        self.transport.closing = True
        self.connection.connection_lost(None)

    def answers(self, heads_only: int = 0) -> list[Answer]:
        return answers(self.transport.sent, heads_only)

    def bodies(self) -> list[bytes]:
        return [answer.body for answer in self.answers()]

    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers()]


def request(
    target: str = "/now",
    body: bytes = b"",
    method: str = "POST",
    version: str = "1.1",
    **headers: str,
) -> bytes:
    """The bytes of a request; a header's name is written with underscores."""
    lines = [f"{method} {target} HTTP/{version}", "host: h"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body or method == "POST":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*pieces: bytes, trailers: bytes = b"", target: str = "/now") -> bytes:
    """A request whose body comes in chunks."""
    head = f"POST {target} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    parts = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return head + b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


def cut(data: bytes, points: list[int]) -> list[bytes]:
    """`data` in pieces, cut at these points (taken modulo its length)."""
    edges = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]
