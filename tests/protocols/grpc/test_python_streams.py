"""Models that stream from a worker process, over the real plane."""

from pathlib import Path
from typing import Any

import numpy as np

from fakes import on_loop
from protocols.grpc.planes import Client, repository
from protocols.grpc.wire import add_output, add_typed, message

MODELS = """
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import numpy.typing as npt

import inferd

Row = Annotated[npt.NDArray[np.float32], inferd.Shape(3)]


class Steps(inferd.Model):
    def predict(self, to: int) -> Iterator[Row]:
        if to < 0:
            raise ValueError("to must not be negative")
        for number in range(to):
            yield np.array([number, 5, 0.5], np.float32)
"""


def ask(to: int, id: str = "", **parameters: Any) -> Any:
    wire = message("Steps", "", id=id, parameters=parameters)
    return add_typed(wire, "to", "INT64", (1,), [to])


async def answers(client: Client, *requests: Any) -> list[Any]:
    found = await client.stream(*requests).rest()
    return sorted(found, key=lambda answer: answer.infer_response.id)


@on_loop
async def test_a_generator_streams(tmp_path: Path) -> None:
    models = tmp_path / "models.py"
    models.write_text(MODELS)
    async with repository(models) as client:
        end = {"triton_enable_empty_final_response": True}
        found = await answers(client, ask(3, "a"), ask(2, "b", **end), ask(-1, "c"))
        by_id = {id: [a for a in found if a.infer_response.id == id] for id in "abc"}
        numbers = [
            np.frombuffer(a.infer_response.raw_output_contents[0], np.float32)[0]
            for a in by_id["a"]
        ]
        assert numbers == [0, 1, 2]
        assert {a.infer_response.model_version for a in by_id["a"]} == {"1"}
        *parts, last = by_id["b"]
        assert len(parts) == 2
        assert not last.infer_response.outputs
        assert last.infer_response.parameters["triton_final_response"].bool_param
        (error,) = by_id["c"]
        assert "to must not be negative" in error.error_message

        (name,) = [output.name for output in parts[0].infer_response.outputs]
        wire = add_output(ask(2), name, classification=2)
        tops = await answers(client, wire)
        assert [a.infer_response.outputs[0].datatype for a in tops] == ["BYTES", "BYTES"]
        assert [b"5.000000:1" in a.infer_response.raw_output_contents[0] for a in tops] == [
            True
        ] * 2
