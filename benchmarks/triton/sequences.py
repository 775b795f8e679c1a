"""A thousand sequences at once: that each gets its own sums, and requests for a load of them."""

import asyncio
import json
from collections.abc import Iterator

import numpy as np
import tritonclient.grpc.aio as grpc

from benchmarks.client import Mismatch
from benchmarks.triton.repository import SEQUENCES, STEPS, WIDTH
from benchmarks.wires import JSON_HEADERS, Message

IN_FLIGHT = 64


def check_sequences(port: int, model: str) -> int:
    """Asks for the steps of all sequences, interleaved, over gRPC; gives how many answers were
    right, which is all, or raises Mismatch."""
    return asyncio.run(_check(port, model))


async def _check(port: int, model: str) -> int:
    right = 0
    places = asyncio.Semaphore(IN_FLIGHT)
    async with grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:

        async def ask(sequence: int, step: int) -> None:
            nonlocal right
            async with places:
                x = grpc.InferInput("x", [1, WIDTH], "FP32")
                x.set_data_from_numpy(np.full((1, WIDTH), sequence + step, np.float32))
                result = await client.infer(
                    model, [x], sequence_id=sequence, sequence_start=step == 0,
                    sequence_end=step == STEPS - 1,
                )  # fmt: skip
            expected = sum(sequence + earlier for earlier in range(step + 1))
            if not (result.as_numpy("y") == expected).all():
                raise Mismatch(f"sequence {sequence}, step {step}: {result.as_numpy('y')}")
            right += 1

        for step in range(STEPS):
            await asyncio.gather(*[ask(sequence, step) for sequence in range(1, SEQUENCES + 1)])
    return right


def messages(with_sequences: bool) -> Iterator[Message]:
    """The steps of all sequences, interleaved: sent in this order, a sequence's next request goes
    out long after its last one was answered. Or the same without sequences."""
    for step in range(STEPS):
        for sequence in range(1, SEQUENCES + 1):
            described = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32"}
            data = [float(sequence + step)] * WIDTH
            body: dict[str, object] = {"inputs": [{**described, "data": data}]}
            if with_sequences:
                body["parameters"] = {
                    "sequence_id": sequence,
                    "sequence_start": step == 0,
                    "sequence_end": step == STEPS - 1,
                }
            yield Message(JSON_HEADERS, json.dumps(body).encode())
