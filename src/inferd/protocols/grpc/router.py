"""Finds the call that a stream asks for, and keeps what calls share: methods, limits, counts."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from inferd.protocols.grpc.call import UnaryCall
from inferd.protocols.grpc.handled_call import HandledCall, StreamedCall
from inferd.protocols.grpc.head import CallHead, error_block, http_refusal
from inferd.protocols.grpc.intake import Intake
from inferd.protocols.grpc.methods import Method
from inferd.protocols.grpc.status import NAMES, Status, status_of
from inferd.protocols.http2.connection import Http2Connection
from inferd.protocols.http2.headers import Fields
from inferd.protocols.http2.stream import NOBODY, Http2Stream, StreamSink
from inferd.protocols.request_id import request_id

_log = logging.getLogger("inferd.access")

MAX_HEADS = 512
"""How many header blocks are remembered."""

Direct = Callable[["GrpcRouter", Http2Stream, CallHead], UnaryCall]
"""Starts a call that needs no handler."""


class Answered(Protocol):
    """A call, to whoever counts and logs it."""

    head: CallHead
    identity: bytes
    start_ns: int


class GrpcRouter:
    """An Accept."""

    def __init__(
        self,
        methods: Iterable[Method],
        direct: Mapping[str, Direct],
        max_message_bytes: int,
        access_log: bool = False,
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self.calls: dict[tuple[str, str], int] = {}
        """Calls that have ended, by method and status; those of unknown methods under none."""
        self.streams: set[StreamedCall] = set()
        """Calls whose handlers run for as long as their clients like."""
        self._methods = {method.path.encode(): method for method in methods}
        self._direct = {path.encode(): start for path, start in direct.items()}
        self._heads: dict[int, CallHead] = {}
        self._access_log = access_log

    def __call__(self, stream: Http2Stream, fields: Fields) -> StreamSink:
        """A request's header block is here."""
        head = self._heads.get(id(fields))
        if head is None or head.fields is not fields:
            refusal = http_refusal(fields)
            if refusal:
                stream.refuse(refusal)
                return NOBODY
            head = CallHead(fields, self._methods)
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            self._heads[id(fields)] = head
        if head.refusal is not None or head.method is None:
            return self._refused(stream, head)
        start = self._direct.get(fields[b":path"])
        if start is not None:
            return start(self, stream, head)
        if head.method.kind == "unary":
            return HandledCall(self, stream, head, head.method)
        return StreamedCall(self, stream, head, head.method)

    def _refused(self, stream: Http2Stream, head: CallHead) -> StreamSink:
        assert head.refusal is not None
        identity = request_id(head.request_id)
        stream.refuse(error_block(head.refusal, identity, {}))
        self._count(head, identity, status_of(head.refusal), time.perf_counter_ns())
        return NOBODY

    def leave(self) -> None:
        """End streams that clients leave open; what has come on them is answered before."""
        for call in list(self.streams):
            call.leave()

    def intake(self, connection: Http2Connection) -> Intake:
        """Who of a connection's streams is asked for more."""
        intake: Intake | None = connection.shared
        if intake is None:
            intake = connection.shared = Intake(self.max_message_bytes)
        return intake

    # -- counting --------------------------------------------------------------------------------

    def answered(self, call: Answered, status: int) -> None:
        """Count one answer, and log it if that is wanted."""
        self._count(call.head, call.identity, status, call.start_ns)

    def left(self, call: Answered) -> None:
        """Count a call whose client has left."""
        self._count(call.head, call.identity, Status.CANCELLED, call.start_ns)

    def _count(self, head: CallHead, identity: bytes, status: int, start_ns: int) -> None:
        path = head.method.path if head.method is not None else ""
        ended = path, NAMES[status]
        self.calls[ended] = self.calls.get(ended, 0) + 1
        if self._access_log:
            milliseconds = round((time.perf_counter_ns() - start_ns) / 1e6, 3)
            _log.info(
                "call",
                extra={
                    "method": path or head.fields[b":path"].decode("latin-1"),
                    "status": NAMES[status],
                    "milliseconds": milliseconds,
                    "request_id": identity.decode("latin-1"),
                },
            )
