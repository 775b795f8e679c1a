"""A GenerationExchange: one request for text on one connection, from its body to its last byte.

It runs as one task, which ends when the client leaves; with it end the generations that it reads.
An error before the first byte is an answer with a status, one behind it an event.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

import orjson

from inferd.errors import InferdError
from inferd.protocols.faults import internal_error, log_fault
from inferd.protocols.http.connection import HttpConnection
from inferd.protocols.http.event_stream import EventStream
from inferd.protocols.http.openai.body import decode_body
from inferd.protocols.http.openai.chat import chat_reply
from inferd.protocols.http.openai.completions import completion_reply
from inferd.protocols.http.openai.errors import (
    error_object,
    openai_error_body,
    openai_error_headers,
    status_of,
)
from inferd.protocols.http.openai.offload import offloaded
from inferd.protocols.http.openai.prompts import runs_code
from inferd.protocols.http.openai.reply import DONE, Reply
from inferd.protocols.http.request import Headers, HttpRequest
from inferd.protocols.request_id import next_request_id, request_id
from inferd.schemas.openai import ChatRequest, CompletionRequest, GenerationFields
from inferd.serving.data_plane import DataPlane
from inferd.serving.served_llm import ServedLLM
from inferd.types.generation import GenerationDelta, GenerationRequest

_log = logging.getLogger("inferd.http")


class GenerationExchange:
    """One request being answered; an Exchange."""

    __slots__ = (
        "_connection",
        "_events",
        "_kind",
        "_max_body_bytes",
        "_plane",
        "_request",
        "_request_id",
        "_task",
    )  # fmt: skip

    def __init__(
        self, plane: DataPlane, max_body_bytes: int, kind: type[GenerationFields],
        connection: HttpConnection, request: HttpRequest,
    ) -> None:  # fmt: skip
        self._plane = plane
        self._max_body_bytes = max_body_bytes
        self._kind = kind
        self._connection = connection
        self._request = request
        self._request_id = request_id(request.head.fields.get(b"x-request-id"))
        self._events = EventStream(connection, self._headers)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """The client has left."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            reply = await self._reply()
            if reply.streams:
                await self._stream(reply)
            else:
                await self._generate(reply, reply.add)
                body = reply.whole()
                self._connection.respond(200, body, headers=self._headers())
        except InferdError as error:
            self._fail(error)
        except Exception as error:
            self._fail(internal_error(_log, error, self._request_id))
        finally:
            self._events.close()

    # -- in --------------------------------------------------------------------------------------

    async def _reply(self) -> Reply:
        request, kind = self._request, self._kind
        size = len(request.body)
        fields = await offloaded(
            size,
            lambda: decode_body(request.body, request.head.fields, kind, self._max_body_bytes),
        )
        llm = self._plane.generator(fields.model)
        id = next_request_id().decode()
        return await offloaded(size, lambda: _reply_to(fields, llm, id), runs_code(fields))

    # -- generating ------------------------------------------------------------------------------

    async def _generate(
        self, reply: Reply, take: Callable[[int, list[GenerationDelta]], None]
    ) -> None:
        """Hand all that comes to `take`; the first of several prompts to fail ends the others."""
        llm, requests = reply.llm, reply.requests
        if len(requests) == 1:
            await self._read(llm, requests[0], 0, take)
            return
        try:
            async with asyncio.TaskGroup() as group:
                for number, request in enumerate(requests):
                    group.create_task(self._read(llm, request, number, take))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _read(
        self, llm: ServedLLM, request: GenerationRequest, number: int,
        take: Callable[[int, list[GenerationDelta]], None],
    ) -> None:  # fmt: skip
        drained = self._connection.drained
        async with aclosing(llm.generate(request)) as stream:
            async for deltas in stream:
                take(number, deltas)
                await drained()

    # -- a stream --------------------------------------------------------------------------------

    async def _stream(self, reply: Reply) -> None:
        self._events.arm()
        events, send = reply.events, self._events.send

        def take(number: int, deltas: list[GenerationDelta]) -> None:
            data = events(number, deltas)
            if data:
                send(data)

        await self._generate(reply, take)
        self._events.end(reply.last_events())

    # -- errors ----------------------------------------------------------------------------------

    def _fail(self, error: InferdError) -> None:
        log_fault(_log, error, self._request_id)
        if self._connection.closed:
            return
        if self._events.begun:
            self._events.end(
                b"data: %b\n\n%b" % (orjson.dumps({"error": error_object(error)}), DONE)
            )
            return
        headers = [*self._headers(), *openai_error_headers(error)]
        self._connection.respond(status_of(error), openai_error_body(error), headers=headers)

    def _headers(self) -> Headers:
        return [(b"x-request-id", self._request_id)]


def _reply_to(fields: GenerationFields, llm: ServedLLM, id: str) -> Reply:
    if isinstance(fields, ChatRequest):
        return chat_reply(fields, llm, id)
    assert isinstance(fields, CompletionRequest)
    return completion_reply(fields, llm, id)
