"""`grpc.health.v1.Health`: whether the server, or one of its models by name, takes requests."""

import asyncio
from collections.abc import AsyncGenerator, Collection
from typing import Any

from inferd.errors import InvalidRequest, ModelNotFound
from inferd.protocols.grpc.methods import CallContext, Method, Requests
from inferd.protocols.malformed import parsed
from inferd.schemas.pb.messages import Message, message_class
from inferd.serving.data_plane import DataPlane

SERVICE = "grpc.health.v1.Health"

POLL_S = 0.25
"""How often a watch looks."""

_Request = message_class("grpc.health.v1.HealthCheckRequest")
_Response = message_class("grpc.health.v1.HealthCheckResponse")


class HealthService:
    """The service over the data plane; `services` are as healthy as the server is."""

    def __init__(self, data: DataPlane, services: Collection[str]) -> None:
        self._data = data
        self._whole = {"", *services}

    def methods(self) -> tuple[Method, ...]:
        """Every call."""
        return (
            Method(f"/{SERVICE}/Check", "unary", self.check, _Request),
            Method(f"/{SERVICE}/Watch", "server_stream", self.watch),
        )

    async def check(self, request: Message, context: CallContext) -> Message:
        """The status now; raises ModelNotFound for what is neither a service nor a model."""
        return _Response(status=self._status(request.service))

    async def watch(self, requests: Requests, context: CallContext) -> AsyncGenerator[Any, None]:
        """The status now, and whenever it is another one; ends when the server is about to."""
        async for data in requests:
            name = parsed(_Request, data).service
            break
        else:
            raise InvalidRequest("Watch needs a request")
        told = None
        while True:
            leaving = not self._data.live()
            try:
                status = self._status(name)
            except ModelNotFound:
                status = _Response.SERVICE_UNKNOWN
            if status != told:
                yield _Response(status=status)
                told = status
            if leaving:
                return
            await asyncio.sleep(POLL_S)

    def _status(self, name: str) -> int:
        ready = self._data.ready() if name in self._whole else self._data.model_ready(name)
        status: int = _Response.SERVING if ready else _Response.NOT_SERVING
        return status
