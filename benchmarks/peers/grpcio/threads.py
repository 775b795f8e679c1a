"""grpcio's server with threads and generic handlers, which parse nothing: what gRPC costs there
before any inference."""

from concurrent.futures import ThreadPoolExecutor

import grpc
from answer import ADDRESS, METHOD, SERVICE, answer

THREADS = 10


def echo(request: bytes, _: grpc.ServicerContext) -> bytes:
    """Answers at once."""
    return answer(request)


if __name__ == "__main__":
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(echo)}
    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(ADDRESS)
    server.start()
    server.wait_for_termination()
