"""HTTP routes of a model's own: the request goes on to the model's worker, its answer comes back in
pieces. Only HTTP: a WebSocket is refused.

What concerns a connection (hop-by-hop headers, the framing of a body) ends here, on both ways. An
answer that cannot be begun is an error with a status; one that breaks off ends its connection.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote

from inferd.errors import BackendError, InferdError
from inferd.protocols.faults import internal_error, log_fault
from inferd.protocols.http.connection import BODILESS, HttpConnection
from inferd.protocols.http.errors import STATUS_OF, error_body, error_headers
from inferd.protocols.http.request import Headers, HttpRequest, RequestHead
from inferd.protocols.request_id import request_id
from inferd.serving.data_plane import DataPlane
from inferd.serving.visits import MountedApp, Visit
from inferd.types.visit import VisitHead

_log = logging.getLogger("inferd.http")

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_OURS: Final = frozenset({b"content-length", b"date", b"server", b"x-request-id"})
"""Headers that are written here, whatever the other side says."""

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(rb"[^\x00\r\n]*")

NO_WEBSOCKET: Final = (
    "a model's own routes are HTTP only; for a WebSocket there is /ws/models/{name}"
)


class MountRoute:
    """Sends requests to the models' own routes."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def start(self, connection: HttpConnection, request: HttpRequest) -> "MountExchange | None":
        """Begin to answer, where a path is below a mount; what is not is None, and not answered.

        It is asked for every request: mounts come and go with models.
        """
        path = unquote(request.head.target.partition(b"?")[0].decode("latin-1"))
        identity = request_id(request.head.fields.get(b"x-request-id"))
        try:
            app = self._plane.mounted(path)
        except InferdError as error:
            return MountExchange(connection, request, identity, error)
        if app is None:
            return None
        return MountExchange(connection, request, identity, app, path)


class MountExchange:
    """One request answered by a model's own routes, in a task of its own."""

    def __init__(
        self, connection: HttpConnection, request: HttpRequest, identity: bytes,
        app: MountedApp | InferdError, path: str = "",
    ) -> None:  # fmt: skip
        self._connection = connection
        self._request = request
        self._identity = identity
        self._path = path
        self._begun = False
        self._task = asyncio.get_running_loop().create_task(self._run(app))

    def cancel(self) -> None:
        """The client has left: its visit ends."""
        self._task.cancel()

    async def _run(self, app: MountedApp | InferdError) -> None:
        visit = None
        try:
            if isinstance(app, InferdError):
                raise app
            if self._request.head.fields.get(b"upgrade", b"").lower() == b"websocket":
                self._refuse(501, NO_WEBSOCKET)
                return
            head = visit_head(self._request, self._path, app.mount, self._connection.peer)
            head.headers.append((b"x-request-id", self._identity))
            with contextlib.closing(app.visit(head, self._request.body)) as visit:
                await self._forward(visit)
        except InferdError as error:
            self._fail(error, visit is not None and visit.lost)
        except Exception as error:
            self._fail(internal_error(_log, error, self._identity), False)

    async def _forward(self, visit: Visit) -> None:
        head = await visit.head()
        headers, length = answer_headers(head.status, head.headers)
        headers.append((b"x-request-id", self._identity))
        chunk = await visit.chunk()
        without_body = self._request.head.method == b"HEAD" or head.status in BODILESS
        if not chunk.more and (length is None or not without_body):
            length = len(chunk.data)
        connection = self._connection
        self._begun = True
        connection.write(connection.head(head.status, headers, b"", length))
        if not without_body:
            sent = 0
            while True:
                sent += len(chunk.data)
                if length is not None and (sent > length or (sent < length and not chunk.more)):
                    raise BackendError(
                        f"the model's app announced {length} bytes of answer and sent {sent}"
                    )
                self._write(chunk.data, length is None)
                if not chunk.more:
                    break
                await connection.drained()
                chunk = await visit.chunk()
            if length is None:
                connection.write(b"0\r\n\r\n")
        connection.finish(head.status)

    def _write(self, data: bytes, chunked: bool) -> None:
        if chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._connection.write(data)

    def _fail(self, error: InferdError, lost: bool) -> None:
        log_fault(_log, error, self._identity)
        if self._begun:
            self._connection.abort()
            return
        status = STATUS_OF[error.code]
        if error.code == "timeout":
            status = 504
        elif lost and error.code == "backend":
            status = 502
        self._refuse(status, str(error), error_headers(error))

    def _refuse(self, status: int, message: str, headers: Headers | None = None) -> None:
        headers = [(b"x-request-id", self._identity), *(headers or ())]
        self._connection.respond(status, error_body(message), headers=headers)


def visit_head(request: HttpRequest, path: str, mount: str, peer: object) -> VisitHead:
    """A request as the model's routes see it; its body is whole, and its length known."""
    head = request.head
    raw_path, _, query = head.target.partition(b"?")
    headers = [*_end_to_end(head), (b"content-length", b"%d" % len(request.body))]
    if not request.body and b"content-length" not in head.fields:
        headers.pop()
    client = (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None
    return VisitHead(
        head.method.decode("latin-1"), path, raw_path, mount, query, headers, client
    )  # fmt: skip


def _end_to_end(head: RequestHead) -> Iterator[tuple[bytes, bytes]]:
    named = _named(value for name, value in head.headers if name == b"connection")
    for name, value in head.headers:
        if name not in _HOP_BY_HOP and name not in named and name not in _REQUEST_OURS:
            yield name, value


_REQUEST_OURS: Final = frozenset({b"content-length", b"expect", b"x-request-id"})


def answer_headers(
    status: int, headers: Iterable[tuple[bytes, bytes]]
) -> tuple[Headers, int | None]:
    """Headers of an answer as they go to the client, and the length it announces.

    Raises BackendError for what would not be an HTTP answer.
    """
    if not 200 <= status <= 599:
        raise BackendError(f"the model's app answered with status {status}, not with 200 to 599")
    given = [(name.lower(), value.strip(b" \t")) for name, value in headers]
    named = _named(value for name, value in given if name == b"connection")
    length = None
    kept = []
    for name, value in given:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BackendError(f"the model's app answered with the header {name!r}: {value!r}")
        if name == b"content-length":
            if not (value.isdigit() and len(value) < 19):
                raise BackendError(f"the model's app answered with content-length {value!r}")
            length = int(value)
        elif name not in _HOP_BY_HOP and name not in named and name not in _OURS:
            kept.append((name, value))
    return kept, length


def _named(connection_headers: Iterable[bytes]) -> set[bytes]:
    """Headers that a Connection header declares to be of this connection only."""
    return {
        name.strip().lower() for value in connection_headers for name in value.split(b",")
    }  # fmt: skip
