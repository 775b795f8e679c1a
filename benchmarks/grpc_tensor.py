"""A large tensor to inferd and back over gRPC, beside the same over its HTTP binary path.

Two clients for each: tritonclient, as users have it, and one that costs as little as can be (bare
sockets, h2load), since grpcio itself takes longer over such a message than the server.
"""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import tritonclient.grpc
import tritonclient.http

from benchmarks import h2load
from benchmarks.bulk import GIGA, Bulk, measure, measure_bulk
from benchmarks.calls import request
from benchmarks.client import Mismatch
from benchmarks.processes import ServerProcess
from benchmarks.wires import V2_BINARY, tensor
from benchmarks.workloads import Workload

HTTP_SOCKETS, GRPC_H2LOAD = "V2 binary, bare sockets", "gRPC, h2load"
HTTP_CLIENT, GRPC_CLIENT = "V2 binary, tritonclient", "gRPC, tritonclient"


def measure_tensor(
    process: ServerProcess, workload: Workload, seconds: float
) -> Iterator[tuple[str, Bulk]]:
    """Each form of request by name, one connection and one request at a time; raises Mismatch when
    another tensor comes back."""
    http, grpc = process.endpoint.port, process.grpc_port
    yield HTTP_CLIENT, measure([TensorClient(tritonclient.http, http, workload)], workload, seconds)
    yield GRPC_CLIENT, measure([TensorClient(tritonclient.grpc, grpc, workload)], workload, seconds)
    yield HTTP_SOCKETS, measure_bulk(process.at(V2_BINARY), workload, 1, seconds)
    rate = h2load.load(grpc, request(workload, some_row(workload)), seconds, 1, 1)
    if rate.bad_status or rate.socket_errors:
        raise Mismatch(f"{rate.bad_status} calls refused, {rate.socket_errors} failed")
    carried = rate.requests_per_second * workload.width * 4 / GIGA
    yield GRPC_H2LOAD, Bulk(rate.requests_per_second, carried)


def some_row(workload: Workload) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """The tensor that is sent."""
    return np.random.default_rng(0).normal(size=workload.width).astype(np.float32)


class TensorClient:
    """tritonclient over HTTP or gRPC, whose libraries are written alike."""

    def __init__(self, library: ModuleType, port: int, workload: Workload) -> None:
        self._library = library
        self._workload = workload
        self._client = library.InferenceServerClient(f"127.0.0.1:{port}")
        self._sent = some_row(workload)
        self._back = np.empty(0, np.float32)

    def ask(self) -> None:
        """There and back, from array to array."""
        described = self._library.InferInput(**tensor(self._workload, self._sent))
        described.set_data_from_numpy(self._sent)
        self._back = self._client.infer(self._workload.name, [described]).as_numpy("output")

    def check(self) -> None:
        """Raises Mismatch unless the last answer is the tensor that was sent."""
        if not np.array_equal(self._back, self._sent):
            raise Mismatch("another tensor came back")

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()
