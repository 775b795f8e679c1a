"""The models that the conformance tests ask, and short ways to ask them with tritonclient."""

from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import tritonclient.http as triton

from lifecycle.onnx_models import TYPES, Repository, add_sub, constant, identity, work

ODD_NAME = "odd name #1? 50%25 ü+"
LABELS = ("cat", "dog", "bird", "fish")

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def write_repository(root: Path) -> None:
    repository = Repository(root)
    for datatype in TYPES:
        repository.add(f"id_{datatype}", identity(datatype, ("n", "m")), config=batches(8))
    repository.add("add_sub", add_sub(), config=batches(8))
    repository.add("counted", add_sub(), config=batches(8))
    repository.add("unbatched", identity(shape=("n", "m")), config=batches(0))
    repository.add("vector", identity(shape=(4,)), config=batches(0))
    repository.add("held", work(), config=batches(0))
    repository.add(ODD_NAME, identity(), config=batches(8))
    for name in ("switched", "overridden"):
        for version in (1, 2, 3):
            repository.add(name, constant(version), version, batches(8))
    labels = {"labels.txt": "\n".join(LABELS) + "\n"}
    labelled = {"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [4],
                "label_filename": "labels.txt"}  # fmt: skip
    repository.add("labelled", identity(), config=batches(8) | {"output": [labelled]}, files=labels)
    repository.add(
        "labelled_vector", identity(shape=(4,)), config=batches(0) | {"output": [labelled]},
        files=labels,
    )  # fmt: skip


DECOUPLED = """
import asyncio
from collections.abc import AsyncIterator

import inferd


class Repeat(inferd.Model, max_concurrency=8):
    ended: dict[str, int] = {}

    async def predict(self, value: int, times: int, wait_s: float) -> AsyncIterator[int]:
        if times < 0:
            raise ValueError("times must not be negative")
        for _ in range(times):
            await asyncio.sleep(wait_s)
            yield value
"""
"""A model that answers a request with as many responses as it says."""


def batches(size: int) -> dict[str, Any]:
    return {"max_batch_size": size}


def tensor(name: str, datatype: str, array: Array, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    if datatype == "BF16":
        array = array.astype(ml_dtypes.bfloat16)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def pair(rows: int = 1, columns: int = 16) -> list[triton.InferInput]:
    """Inputs of `add_sub`: INPUT0 counts up from 0, INPUT1 is ones."""
    count = rows * columns
    first = np.arange(count, dtype=np.float32).reshape(rows, columns)
    return [
        tensor("INPUT0", "FP32", first),
        tensor("INPUT1", "FP32", np.ones((rows, columns), np.float32)),
    ]


def one(value: float = 0.0) -> list[triton.InferInput]:
    """The input of a model with one number."""
    return [tensor("INPUT0", "FP32", np.full((1, 1), value, np.float32))]
