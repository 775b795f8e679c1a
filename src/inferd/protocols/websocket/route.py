"""The way into a WebSocket: `GET /ws/models/{name}[/versions/{version}]` with an upgrade.

A request that cannot be upgraded gets an ordinary answer: 403 to a page of another site (a browser
asks for WebSockets anywhere, without leave), 404 without such a model, 426 without an upgrade.
"""

import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from inferd.errors import InferdError, ModelUnavailable
from inferd.protocols.http.connection import Handler, HttpConnection
from inferd.protocols.http.errors import STATUS_OF, error_body, error_headers
from inferd.protocols.http.origin import CROSS_SITE, cross_site
from inferd.protocols.http.request import HttpRequest, RequestHead
from inferd.protocols.request_id import next_request_id
from inferd.serving.data_plane import DataPlane

if TYPE_CHECKING:
    from websockets.server import ServerProtocol

_PATH = re.compile(rb"/ws/models/([^/?]+)(?:/versions/([^/?]+))?(?:\?(.*))?")

_log = logging.getLogger("inferd.websocket.protocol")
_log.setLevel(logging.WARNING)  # that connections come and go is not news


class WebSocketRoute:
    """Opens WebSockets to models."""

    def __init__(self, plane: DataPlane, max_message_bytes: int) -> None:
        self._plane = plane
        self._max_message_bytes = max_message_bytes

    def handler(self, head: RequestHead) -> Handler | None:
        """How to answer a request with such a head; None for one that is not for a WebSocket."""
        found = _PATH.fullmatch(head.target)
        if found is None:
            return None
        name, version = (unquote((part or b"").decode("latin-1")) for part in found.groups()[:2])
        asked = parse_qs((found[3] or b"").decode("latin-1")).get("session", [""])[0]
        session = head.fields.get(b"x-session-id", b"").decode("latin-1") or asked
        return lambda connection, request: self._open(connection, request, name, version, session)

    def _open(
        self, connection: HttpConnection, request: HttpRequest, name: str, version: str,
        session: str,
    ) -> None:  # fmt: skip
        fields = request.head.fields
        if fields.get(b"upgrade", b"").lower() != b"websocket":
            headers = [(b"upgrade", b"websocket")]
            connection.respond(426, error_body("this path is a WebSocket's"), headers=headers)
            return
        if cross_site(fields):
            connection.respond(403, error_body(CROSS_SITE))
            return
        try:
            if self._plane.draining:
                raise ModelUnavailable("the server is shutting down and takes no new connections")
            served = self._plane.served(name, version)
        except InferdError as error:
            body, headers = error_body(str(error)), error_headers(error)
            connection.respond(STATUS_OF[error.code], body, headers=headers)
            return
        if not session and served.signature.sessions:
            session = next_request_id().decode()  # a connection is a session, unless it says which
        self._upgrade(connection, request, name, version, session)

    def _upgrade(
        self, connection: HttpConnection, request: HttpRequest, name: str, version: str,
        session: str,
    ) -> None:  # fmt: skip
        # Imported at the first of them: most servers never see one.
        from inferd.protocols.websocket.session import WebSocketSession

        protocol, refusal = _shake_hands(request.head, self._max_message_bytes)
        if refusal is not None:
            status, message = refusal
            connection.respond(status, error_body(message))
            return
        tunnel = WebSocketSession(connection, protocol, self._plane, name, version, session)
        connection.upgrade(tunnel, b"".join(protocol.data_to_send()))


def _shake_hands(
    head: RequestHead, max_message_bytes: int
) -> "tuple[ServerProtocol, tuple[int, str] | None]":
    """The protocol with its answer to send, or a status and a message why there is none."""
    from websockets.http11 import Request
    from websockets.server import ServerProtocol

    protocol = ServerProtocol(max_size=max_message_bytes, logger=_log)
    lines = [b"%b: %b\r\n" % pair for pair in head.headers]
    protocol.receive_data(b"%b %b HTTP/1.1\r\n%b\r\n" % (head.method, head.target, b"".join(lines)))
    (event,) = protocol.events_received() or (None,)
    if not isinstance(event, Request):
        return protocol, (400, "the WebSocket handshake is malformed")
    response = protocol.accept(event)
    if response.status_code != 101:
        text = bytes(response.body or b"").decode("utf-8", "replace").strip()
        return protocol, (response.status_code, text)
    protocol.send_response(response)
    return protocol, None
