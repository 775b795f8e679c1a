"""How the direct paths answer with an error: in the Open Inference Protocol's shape."""

import logging

from inferd.errors import InferdError
from inferd.protocols.faults import log_fault
from inferd.protocols.http.connection import HttpConnection
from inferd.protocols.http.errors import STATUS_OF, error_body, error_headers
from inferd.protocols.http.request import HttpRequest

_log = logging.getLogger("inferd.http")


def answer_error(
    connection: HttpConnection, request: HttpRequest, error: InferdError, identity: bytes
) -> None:
    """Send an error with its status; `identity` is the request's id. A fault is logged."""
    log_fault(_log, error, identity)
    headers = [(b"x-request-id", identity), *error_headers(error)]
    if error.code == "unsupported" and b"content-encoding" in request.head.fields:
        headers.append((b"accept-encoding", b"gzip, deflate"))
    connection.respond(STATUS_OF[error.code], error_body(str(error)), headers=headers)
