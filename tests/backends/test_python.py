"""Model classes in this process."""

from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from inferd import testing
from inferd.backends.base import Model, OpenOptions
from inferd.backends.registry import create_backend, isolated
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError
from inferd.repository.layout import scan
from inferd.testing import ServerFailed
from inferd.types.tensor import left_out

HEAD = """
import os
from typing import Annotated
import numpy as np, numpy.typing as npt
import inferd

Rows = Annotated[npt.NDArray[np.float32], inferd.Shape(None, 2)]
"""

SCALED = """
class Scaled(inferd.Model, max_batch_size=8, isolation="thread"):
    def load(self) -> None:
        self.kept = np.zeros((8, 2), np.float32)

    def predict(self, x: Rows, by: list[float] = [2.0]) -> Rows:
        np.multiply(x, np.array(by, np.float32)[:, None], out=self.kept[: len(x)])
        return self.kept[: len(x)]
"""


def write(folder: Path, source: str, name: str = "app.py") -> Path:
    (folder / name).write_text(HEAD + dedent(source))
    return folder / name


def opened(path: Path, **config: object) -> Model:
    return create_backend("python").open(path, ModelConfig(**config), OpenOptions())  # type: ignore[arg-type]


def test_an_instance_computes_and_keeps_what_it_gave(tmp_path: Path) -> None:
    model = opened(write(tmp_path, SCALED))
    instance = model.create_instance()
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    by = np.array([1, 2, 3], np.float64)
    (first,) = instance.run([x, by])
    assert first.tolist() == (x * by[:, None]).tolist()
    (second,) = instance.run([x, left_out(model.description.inputs[1])])
    assert second.tolist() == (x * 2).tolist()
    assert first.tolist() == (x * by[:, None]).tolist()
    instance.close()
    model.close()


def test_the_signature_is_that_of_the_class(tmp_path: Path) -> None:
    model = opened(write(tmp_path, SCALED))
    signature = model.description.signature
    assert signature is not None
    assert [(a.name, a.default) for a in signature.inputs] == [("x", None), ("by", "2.0")]
    assert signature.bare
    assert model.description.max_batch_size == signature.max_batch_size == 8
    assert opened(tmp_path / "app.py", max_batch_size=4).description.max_batch_size == 4


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("async def predict(self, x: int) -> int: ...", "async methods"),
        ("def predict(self, x: int) -> Iterator[int]: ...", "a streamed answer"),
        ("def predict(self, x: int, session: inferd.Session) -> int: ...", "sessions"),
        ("def predict(self, x: int) -> int: ...\n    explain = predict", "explain"),
        ("def predict(self, x: int) -> int: ...\n    asgi = predict", "asgi"),
        ("y = inferd.depends('y')\n    def predict(self, x: int) -> int: ...", "inferd.depends"),
    ],
)
def test_what_needs_a_process_is_told(tmp_path: Path, body: str, what: str) -> None:
    source = f"from collections.abc import Iterator\nclass M(inferd.Model):\n    {body}\n"
    with pytest.raises(ConfigError, match=f"'M' has .*{what}.*choose isolation process") as caught:
        opened(write(tmp_path, source))
    assert caught.value.field == "isolation"


@pytest.mark.parametrize(
    ("config", "field", "words"),
    [
        ({"requirements": ("x",)}, "isolation", "an environment of its own"),
        ({"memory_limit_mb": 100}, "isolation", "a memory limit"),
        ({"max_batch_size": 9}, "max_batch_size", "is 9, but the class says 8"),
        ({"max_batch_size": 0}, "max_batch_size", "is 0, but the class says 8"),
    ],
)
def test_a_configuration_that_does_not_fit_is_told(
    tmp_path: Path, config: dict[str, object], field: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        opened(write(tmp_path, SCALED), **config)
    assert caught.value.field == field


def test_what_the_author_does_wrong_is_one_of_our_errors(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"app.py, line 8: ValueError: no"):
        opened(write(tmp_path, "raise ValueError('no')"))
    with pytest.raises(BackendError, match="there is no subclass"):
        opened(write(tmp_path, ""))
    raises = (
        "class M(inferd.Model):\n    def predict(self, x: int) -> int:\n        return 1 // x\n"
    )
    instance = opened(write(tmp_path, raises)).create_instance()
    with pytest.raises(BackendError, match="ZeroDivisionError"):
        instance.run([np.zeros(1, np.int64)])


def test_modules_beside_a_file_are_read_anew(tmp_path: Path) -> None:
    """They are another length each time: what Python has compiled is told by seconds and size."""
    source = (
        "from beside_it import TWO\nclass M(inferd.Model):\n    def predict(self, x: int) -> int:"
    )
    write(tmp_path, source + "\n        return x * TWO\n")
    for number in (2, 30, 400):
        (tmp_path / "beside_it.py").write_text(f"TWO = {number}\n")
        (result,) = opened(tmp_path / "app.py").create_instance().run([np.ones(1, np.int64)])
        assert result.tolist() == [number]


def test_where_a_class_runs_is_known_without_running_it(tmp_path: Path) -> None:
    where = {
        "Here": 'isolation="thread"', "There": 'isolation="process"', "Wherever": "instances=2",
    }  # fmt: skip
    source = "raise SystemExit('this is never run')\n"
    for name, option in where.items():
        source += f"class {name}(inferd.Model, {option}):\n    def predict(self, x: int): ...\n"
    sources = scan([write(tmp_path, source)])
    assert {n: isolated("python", s.config) for n, s in sources.items()} == {
        "Here": False, "There": True, "Wherever": True,
    }  # fmt: skip
    folder = tmp_path / "models" / "m"
    (folder / "1").mkdir(parents=True)
    write(folder / "1", source.split("class There")[0], "model.py")
    (folder / "config.yaml").write_text("isolation: process\n")
    assert isolated("python", scan([tmp_path / "models"])["m"].config)


def test_where_a_class_runs_has_to_be_written_out(tmp_path: Path) -> None:
    source = "class M(inferd.Model, isolation=os.environ['X']):\n    def predict(self, x): ...\n"
    with pytest.raises(ConfigError, match="option 'isolation' is needed before the code runs"):
        scan([write(tmp_path, source)])


def test_it_is_served_from_the_servers_process(tmp_path: Path) -> None:
    source = (
        SCALED
        + """
class Pid(inferd.Model, isolation="thread", instances=2):
    def load(self) -> None:
        self.calls = 0

    def predict(self, x: str) -> dict[str, int]:
        self.calls += 1
        if x == "raise":
            raise ValueError("no such thing")
        return {"pid": os.getpid(), "calls": self.calls}
"""
    )
    path = write(tmp_path, source)
    with testing.serve(f"{path}:Scaled", f"{path}:Pid") as server:
        assert server.predict("Scaled", x=[1, 2]) == [2, 4]
        assert server.predict("Scaled", x=[[1, 2], [3, 4]], by=[3, 4]) == [[3, 6], [12, 16]]
        assert server.predict("Pid", x="") == {"pid": server._process.pid, "calls": 1}
        with pytest.raises(ServerFailed, match=r"^500: .*ValueError: no such thing"):
            server.predict("Pid", x="raise")
        with pytest.raises(ServerFailed, match=r"^400: "):
            server.predict("Pid", x=1)
