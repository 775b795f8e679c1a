"""grpcio's server on asyncio with generic handlers, which parse nothing: what gRPC costs there
before any inference."""

import asyncio

import grpc
from answer import ADDRESS, METHOD, SERVICE, answer


async def echo(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
    """Answers at once."""
    return answer(request)


async def serve() -> None:
    """Runs until the process is ended."""
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(echo)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(ADDRESS)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
