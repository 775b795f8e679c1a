"""A large tensor in and out, as users of tritonclient send it: in the body, or through shared
memory that client and server have in common."""

import os
import time
from collections.abc import Callable

import numpy as np
import tritonclient.http as http
from tritonclient.utils import shared_memory

from benchmarks.client import Mismatch
from benchmarks.triton.repository import LARGE

BYTES = LARGE * 4


def measure_binary(port: int, seconds: float) -> float:
    """Milliseconds from array to array through the binary extension, the median."""
    with http.InferenceServerClient(f"127.0.0.1:{port}", network_timeout=60) as client:
        sent = _tensor()

        def ask() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            x = http.InferInput("x", [LARGE], "FP32")
            x.set_data_from_numpy(sent)
            return np.asarray(client.infer("large", [x]).as_numpy("y"))

        return _median(ask, sent, seconds)


def measure_shared(port: int, seconds: float) -> float:
    """The same with both tensors in shared memory, the writing and reading of it included."""
    sent = _tensor()
    name = f"inferd-bench-{os.getpid()}"
    with http.InferenceServerClient(f"127.0.0.1:{port}", network_timeout=60) as client:
        region = shared_memory.create_shared_memory_region(name, f"/{name}", 2 * BYTES)
        try:
            client.register_system_shared_memory(name, f"/{name}", 2 * BYTES)
            x = http.InferInput("x", [LARGE], "FP32")
            x.set_shared_memory(name, BYTES)
            y = http.InferRequestedOutput("y", binary_data=True)
            y.set_shared_memory(name, BYTES, offset=BYTES)

            def ask() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
                shared_memory.set_shared_memory_region(region, [sent])
                client.infer("large", [x], outputs=[y])
                return np.asarray(
                    shared_memory.get_contents_as_numpy(region, np.float32, [LARGE], BYTES)
                )

            return _median(ask, sent, seconds)
        finally:
            client.unregister_system_shared_memory(name)
            shared_memory.destroy_shared_memory_region(region)


def _tensor() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=LARGE).astype(np.float32)


def _median(
    ask: Callable[[], np.ndarray[tuple[int, ...], np.dtype[np.float32]]],
    sent: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    seconds: float,
) -> float:
    if not np.array_equal(ask(), sent):
        raise Mismatch("another tensor came back")
    taken = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - started) * 1000)
    if not np.array_equal(ask(), sent):
        raise Mismatch("another tensor came back")
    return float(np.median(taken))
