"""Calls that come together are answered as each would be by itself."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferd import testing

SOURCE = """
from typing import Annotated
import numpy as np
import numpy.typing as npt
import inferd

Rows = Annotated[npt.NDArray[np.float32], inferd.Shape(None, {shape})]


class Halves(inferd.Model, max_batch_size=8):
    def predict(self, x: Rows) -> Rows:
        return x / 2


class Sums(inferd.Model, max_batch_size=8):
    def predict(self, x: Rows) -> npt.NDArray[np.float32]:
        return x.reshape(len(x), -1).sum(axis=1)


class Both(inferd.Model, max_batch_size=8):
    def predict(self, x: Rows) -> tuple[Rows, npt.NDArray[np.int64]]:
        return x, np.arange(len(x)) * 0
"""


@pytest.mark.parametrize(
    ("shape", "item"), [("2", [1.5, float(2**30)]), ("2, 2", [[1.0, -2.5], [0.25, 1e-30]])]
)
def test_riders_get_what_each_would_get_alone(tmp_path: Path, shape: str, item: Any) -> None:
    file = tmp_path / "app.py"
    file.write_text(SOURCE.format(shape=shape))
    wrong = [
        b'{"y": 1}', b'{"x": 1}', b'{"x": [[[[1]]]]}', b'{"x": ["a", 1]}', b"{", b"[]",
        json.dumps({"x": item, "y": 1}).encode(), json.dumps({"x": [item, item]}).encode(),
    ]  # fmt: skip
    bodies = [json.dumps({"x": item}).encode()] * 12 + wrong

    async def ask() -> None:
        limits = httpx.Limits(max_connections=len(bodies))
        async with httpx.AsyncClient(base_url=server.url, limits=limits) as client:
            for model in ("Halves", "Sums", "Both"):
                path = f"/models/{model}"
                kind = {"content-type": "application/json"}
                alone = [
                    # A session is not the lane's: these go by themselves.
                    await client.post(path, content=body, headers={**kind, "x-session-id": "s"})
                    for body in bodies
                ]
                together = await asyncio.gather(
                    *[client.post(path, content=body, headers=kind) for body in bodies]
                )
                said = [(answer.status_code, answer.content) for answer in together]
                assert said == [(answer.status_code, answer.content) for answer in alone]
                assert [answer.status_code for answer in together[:12]] == [200] * 12

    with testing.serve(file) as server:
        asyncio.run(ask())
