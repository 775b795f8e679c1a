"""Requests over HTTP on their way through the express lane."""

from collections.abc import Callable

from inferd.errors import InferdError
from inferd.protocols.express.lane import ExpressLane
from inferd.protocols.express.rider import Held
from inferd.protocols.http.compression import answer_encoding, compress
from inferd.protocols.http.connection import Exchange, HttpConnection
from inferd.protocols.http.request import HttpRequest
from inferd.protocols.request_id import request_id
from inferd.types.inference import InferenceResponse

Ordinary = Callable[[HttpConnection, HttpRequest, str, str], Exchange | None]
"""Starts to answer a request for a model's name and version by itself."""

Settle = Callable[[HttpConnection, HttpRequest, InferenceResponse | InferdError], None]
"""Sends what the ordinary path has come to."""


class HttpLane:
    """An express lane, as a Handler takes it; with `settle` where its form is a StepForm."""

    __slots__ = ("_lane", "_ordinary", "settle")

    def __init__(self, lane: ExpressLane, ordinary: Ordinary, settle: Settle | None = None) -> None:
        self._lane = lane
        self._ordinary = ordinary
        self.settle = settle

    def add(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Take a request; a Handler."""
        self._lane.add(HttpRider(connection, request, self))

    def start(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Answer a request by itself."""
        lane = self._lane
        connection.adopt(request, self._ordinary(connection, request, lane.name, lane.version))


class HttpRider:
    """A Rider."""

    __slots__ = ("_connection", "_lane", "_request", "body")

    def __init__(self, connection: HttpConnection, request: HttpRequest, lane: HttpLane) -> None:
        self.body = request.body
        self._connection = connection
        self._request = request
        self._lane = lane

    @property
    def left(self) -> bool:
        """See Rider."""
        return self._connection.closed

    def answer(self, body: bytes) -> None:
        """See Rider."""
        fields = self._request.head.fields
        identity = request_id(fields.get(b"x-request-id"))
        encoding = answer_encoding(fields.get(b"accept-encoding"), len(body))
        if not encoding:
            self._connection.respond_tensors(body, identity)
            return
        headers = [(b"x-request-id", identity), (b"content-encoding", encoding.encode())]
        self._connection.respond(200, compress(body, encoding), headers=headers)

    def wait(self, held: Held) -> None:
        """See Rider."""
        self._connection.adopt(self._request, held)

    def walk(self) -> None:
        """See Rider."""
        self._lane.start(self._connection, self._request)

    def settle(self, result: InferenceResponse | InferdError) -> None:
        """See Rider."""
        settle = self._lane.settle
        assert settle is not None, "its form is no StepForm"
        settle(self._connection, self._request, result)

    def fail(self) -> None:
        """See Rider."""
        self._connection.fail(self._request)
