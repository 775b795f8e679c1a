"""Models in Python are warmed up before they say that they are loaded, whatever kind they are."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from inferd.errors import ConfigError, InvalidRequest
from inferd.repository.model_config import decode_model_config
from inferd.workers.asking import Asking
from inferd.workers.messages import Event, Start
from inferd.workers.python_runtime import PythonRuntime
from inferd.workers.warmup import warm_up

SOURCE = """
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated
import json
import numpy as np, numpy.typing as npt
import inferd

Rows = Annotated[npt.NDArray[np.float32], inferd.Shape(None, 2)]

def see(what: object) -> None:
    with Path(__file__).with_name("seen").open("a") as file:
        file.write(json.dumps(what) + "\\n")

class Plain(inferd.Model, max_batch_size=4):
    def predict(self, x: Rows) -> Rows:
        see(x.tolist())
        return x

class Async(inferd.Model, max_batch_size=4):
    async def predict(self, x: Rows) -> Rows:
        see(x.tolist())
        return x

class Stream(inferd.Model):
    def predict(self, x: str) -> Iterator[str]:
        for letter in x:
            see(letter)
            yield letter

class AsyncStream(inferd.Model):
    async def predict(self, x: str) -> AsyncIterator[str]:
        for letter in x:
            see(letter)
            yield letter

class Refusing(inferd.Model, max_batch_size=4):
    def predict(self, x: Rows) -> Rows:
        raise inferd.InvalidRequest("not these")
"""

ROWS = {"data_type": "TYPE_FP32", "dims": [2], "input_data_file": "row"}
TEXT = {"data_type": "TYPE_STRING", "dims": [1], "input_data_file": "text"}


def started(folder: Path, name: str, x: dict[str, object], **more: object) -> Start:
    (folder / "app.py").write_text(SOURCE)
    (folder / "warmup").mkdir()
    (folder / "warmup" / "row").write_bytes(np.array([1, 2], np.float32).tobytes())
    (folder / "warmup" / "text").write_bytes(b"\x02\x00\x00\x00ab")
    warmup = {"inputs": {"x": x}, **more}
    config = decode_model_config({"model_warmup": [warmup]}, file="config.yaml")
    path = f"{folder / 'app.py'}:{name}"
    return Start("m", "python", path, config, 1, False, "", 20, str(folder))


def warmed(start: Start) -> list[object]:
    """What the class has seen."""
    told: list[Event] = []
    runtime = PythonRuntime(start, Asking(told.append))
    try:
        warm_up(runtime, start)
    finally:
        runtime.close()
        if runtime.loop is not None:
            runtime.loop.close()
    lines = (Path(start.folder) / "seen").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", ["Plain", "Async"])
def test_rows_of_a_batch_come_together(name: str, tmp_path: Path) -> None:
    seen = warmed(started(tmp_path, name, ROWS, batch_size=2, count=3))
    assert seen == [[[1, 2], [1, 2]]] * 3


@pytest.mark.parametrize("name", ["Stream", "AsyncStream"])
def test_a_stream_is_run_to_its_end(name: str, tmp_path: Path) -> None:
    assert warmed(started(tmp_path, name, TEXT)) == ["a", "b"]


def test_what_the_model_refuses_is_raised(tmp_path: Path) -> None:
    start = started(tmp_path, "Refusing", ROWS)
    with pytest.raises(InvalidRequest, match="not these"):
        warmed(start)


def test_a_class_says_itself_what_its_tensors_are(tmp_path: Path) -> None:
    start = started(tmp_path, "Plain", ROWS)
    said = {"name": "x", "data_type": "TYPE_FP32", "dims": [1, 2], "reshape": {"shape": [2]}}
    config = decode_model_config({"input": [said]}, file="config.yaml")
    with pytest.raises(ConfigError, match=r"input.reshape: is not for this model: its class says"):
        PythonRuntime(msgspec.structs.replace(start, config=config), Asking(print))


def test_a_warm_up_that_does_not_fit_names_its_field(tmp_path: Path) -> None:
    start = started(tmp_path, "Plain", {**ROWS, "dims": [3]})
    with pytest.raises(ConfigError, match=r"model_warmup\[0\].inputs.x.dims"):
        warmed(start)
