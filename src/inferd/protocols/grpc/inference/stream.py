"""An InferStream: one ModelStreamInfer call. Requests of one stream run at the same time.

They are given to their models in the order in which they came. A model that streams answers
whenever it has something; of the others the answers come in the order of their requests. An error
answers its request and the stream goes on, unless the client wants errors to be statuses. So many
requests are in flight and so many answers wait for the client; then nothing more is read, and what
streams is held where it is. How many requests of sequences wait is their model's to bound.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing

from inferd.errors import InferdError
from inferd.protocols.faults import internal_error, log_fault
from inferd.protocols.grpc.inference.request_codec import decode_infer, is_heavy, may_share
from inferd.protocols.grpc.inference.response_codec import (
    Encoded,
    empty_response,
    encode_stream_error,
    encode_stream_infer,
)
from inferd.protocols.grpc.methods import Buffer, CallContext, Requests
from inferd.serving.data_plane import DataPlane
from inferd.types.inference import InferenceRequest

MAX_IN_FLIGHT = 64
"""Requests of one stream that are being answered..."""

REQUEST_BYTES = 1 << 20
"""...if they are smaller than this; a larger one counts as several."""

MAX_WAITING = 2
"""Answers of one stream that wait for its client, beside one for each request in flight."""

ERRORS_AS_STATUS = b"triton_grpc_error"
"""The metadata, `true`, by which a client wants the first error to end the stream."""

_log = logging.getLogger("inferd.grpc")

Turn = asyncio.Future[None]


class InferStream:
    """One call."""

    def __init__(self, plane: DataPlane, context: CallContext) -> None:
        self._plane = plane
        self._deadline_ns = context.deadline_ns
        self._errors_as_status = context.metadata.get(ERRORS_AS_STATUS, b"").lower() == b"true"
        self._answers: asyncio.Queue[Encoded | Exception | None] = asyncio.Queue(MAX_WAITING)
        self._room = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn: Turn | None = None
        """Done when the latest request that is answered in order has been."""

    async def answers(self, requests: Requests) -> AsyncGenerator[Encoded, None]:
        """Every answer, until all requests have theirs; leaving early cancels what is in flight."""
        reader = asyncio.get_running_loop().create_task(self._read(requests))
        try:
            while (answer := await self._answers.get()) is not None:
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:
            tasks = [reader, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- requests ------------------------------------------------------------------------------

    async def _read(self, requests: Requests) -> None:
        try:
            async for data in requests:
                cost = min(MAX_IN_FLIGHT, 1 + len(data) // REQUEST_BYTES)
                for _ in range(cost):
                    await self._room.acquire()
                await self._begin(data, cost)
            await asyncio.gather(*self._tasks)
            await self._answers.put(None)
        except Exception as error:
            await self._answers.put(error)

    async def _begin(self, data: Buffer, cost: int) -> None:
        request = None
        try:
            request, wants_end = await decode_apart(data, self._plane)
            request.deadline_ns = self._deadline_ns
            served = self._plane.served(request.model_name, request.model_version)
        except Exception as error:
            self._spawn(self._in_order(request, error), cost)
            return
        if served.sequences is not None and cost == 1:
            # One that waits for a slot must not keep out those that would end the sequence there.
            self._room.release()
            cost = 0
        if served.signature.streams:
            self._spawn(self._as_it_comes(request, wants_end), cost)
        else:
            self._spawn(self._in_order(request, None), cost)

    def _spawn(self, work: Coroutine[None, None, None], cost: int) -> None:
        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            for _ in range(cost):
                self._room.release()

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(done)

    # -- answers -------------------------------------------------------------------------------

    def _in_order(
        self, request: InferenceRequest | None, error: Exception | None
    ) -> Coroutine[None, None, None]:
        """Answer a request by one answer, behind those of the requests before it."""
        before, self._turn = self._turn, asyncio.get_running_loop().create_future()
        return self._answer(request, error, before, self._turn)

    async def _answer(
        self,
        request: InferenceRequest | None,
        error: Exception | None,
        before: Turn | None,
        turn: Turn,
    ) -> None:
        answer: Encoded | Exception
        if request is not None and error is None:
            try:
                answer = encode_stream_infer(await self._plane.infer(request), final=True)
            except Exception as raised:
                error = raised
        if error is not None:
            answer = self._failure(request, error)
        if before is not None:
            await before
        await self._answers.put(answer)
        turn.set_result(None)

    async def _as_it_comes(self, request: InferenceRequest, wants_end: bool) -> None:
        """Answer a request by whatever its model gives."""
        try:
            final = False
            async with aclosing(self._plane.stream(request)) as stream:
                async for response in stream:
                    if isinstance(response, InferdError):
                        await self._answers.put(self._failure(request, response, final=False))
                        continue
                    final = response.final
                    await self._answers.put(encode_stream_infer(response, final))
            if wants_end and not final:
                end = encode_stream_infer(empty_response(request), final=True)
                await self._answers.put(end)
        except Exception as error:
            await self._answers.put(self._failure(request, error))

    def _failure(
        self, request: InferenceRequest | None, raised: Exception, final: bool = True
    ) -> Encoded | Exception:
        if not isinstance(raised, InferdError):
            raised = internal_error(_log, raised)
        if self._errors_as_status:
            return raised
        log_fault(_log, raised)
        return encode_stream_error(request, raised, final)


async def decode_apart(data: Buffer, plane: DataPlane) -> tuple[InferenceRequest, bool]:
    """`decode_infer`, on a thread where it takes long or reads shared memory."""
    shared = plane.shared_memory
    if is_heavy(data) or (shared.on and may_share(data)):
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, decode_infer, data, shared.reader())
    return decode_infer(data)
