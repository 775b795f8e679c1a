"""The methods of `served.py` on a server of grpcio's, to compare ours with."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
from grpc import StatusCode, aio

from inferd.errors import InferdError
from inferd.protocols.grpc.methods import Method
from inferd.protocols.grpc.status import status_of
from protocols.grpc.served import MOST, SERVICE, Calls

CODES = {code.value[0]: code for code in StatusCode}


class PeerContext:
    """A CallContext over grpcio's."""

    def __init__(self, context: Any) -> None:
        self.metadata: dict[bytes, bytes] = {}
        for key, value in context.invocation_metadata():
            name, data = key.encode(), value if isinstance(value, bytes) else value.encode()
            known = self.metadata.get(name)
            self.metadata[name] = data if known is None else known + b"," + data
        left_s = context.time_remaining()
        self.deadline_ns = 0 if left_s is None else time.perf_counter_ns() + int(left_s * 1e9)
        self._context = context
        self._trailing: list[tuple[str, bytes | str]] = []

    def set_trailing(self, name: bytes, value: bytes) -> None:
        key = name.decode()
        self._trailing.append((key, value if key.endswith("-bin") else value.decode()))
        self._context.set_trailing_metadata(tuple(self._trailing))

    async def abort(self, error: InferdError) -> None:
        await self._context.abort(CODES[status_of(error)], str(error), tuple(self._trailing))


def _of(method: Method) -> grpc.RpcMethodHandler:
    async def unary(data: bytes, context: Any) -> Any:
        told = PeerContext(context)
        try:
            return await method.handler(data, told)  # type: ignore[misc]
        except InferdError as error:
            await told.abort(error)

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncGenerator[Any, None]:
        told = PeerContext(context)
        try:
            answers: Any = method.handler(requests, told)
            async with aclosing(answers):
                async for answer in answers:
                    yield answer
        except InferdError as error:
            await told.abort(error)

    async def only(data: bytes, context: Any) -> AsyncGenerator[Any, None]:
        async def requests() -> AsyncGenerator[bytes, None]:
            yield data

        async with aclosing(stream(requests(), context)) as answers:
            async for answer in answers:
                yield answer

    if method.kind == "unary":
        return grpc.unary_unary_rpc_method_handler(unary)
    if method.kind == "server_stream":
        return grpc.unary_stream_rpc_method_handler(only)
    return grpc.stream_stream_rpc_method_handler(stream)


class Peer:
    """A running server, and its methods."""

    def __init__(self) -> None:
        self.calls = Calls()
        self.address = ""


@asynccontextmanager
async def peer(port: int = 0) -> AsyncIterator[Peer]:
    made = Peer()
    server = aio.server(options=[("grpc.max_receive_message_length", MOST)])
    handlers = {method.path.rpartition("/")[2]: _of(method) for method in made.calls.methods()}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    made.address = f"127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}"
    await server.start()
    try:
        yield made
    finally:
        await server.stop(None)
