"""The README's model in Python: its code, as it stands there, is served, called and tested."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import inferd
from inferd import testing
from inferd.testing import TestServer

ROOT = Path(__file__).parents[2]
FILES = ("app.py", "client.py", "test_app.py")
MOST_LINES = 15

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """The section's blocks of code."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(r"^## Models in Python\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    return [text for kind, text in _BLOCK.findall(section) if kind == language]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's files."""
    folder = tmp_path_factory.mktemp("python_model")
    for name, text in zip(FILES, blocks("python"), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[TestServer]:
    """`inferd serve` of what the README says."""
    (target,) = re.findall(r"inferd serve (\S+)", "".join(blocks("sh")))
    with testing.serve(folder / target) as server:
        yield server


def run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(Path(inferd.__file__).parents[1])}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def at(server: TestServer, text: str) -> str:
    """A text with the address of this server in place of the README's."""
    assert "127.0.0.1:8000" in text
    return text.replace("127.0.0.1:8000", server.url.removeprefix("http://"))


def test_the_files_of_the_example_are_those_of_the_readme() -> None:
    for name, text in zip(FILES, blocks("python"), strict=True):
        assert (ROOT / "examples" / "python_model" / name).read_text(encoding="utf-8") == text


def test_the_class_is_short() -> None:
    tree = ast.parse(blocks("python")[0])
    (model,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert model.end_lineno is not None
    assert model.end_lineno - model.lineno <= MOST_LINES
    assert [ast.unparse(base) for base in model.bases] == ["inferd.Model"]


def test_curl_gets_the_digit_that_is_promised(server: TestServer, folder: Path) -> None:
    (call,) = [text for text in blocks("sh") if text.startswith("curl ")]
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "it answers `0`:" in page
    assert run(["bash", "-c", at(server, call)], folder) == "0"


def test_the_client_reads_digits_over_a_websocket(server: TestServer, folder: Path) -> None:
    client = folder / "client_here.py"
    client.write_text(at(server, (folder / "client.py").read_text()))
    pairs = [line.split() for line in run([sys.executable, client.name], folder).splitlines()]
    assert len(pairs) == 5
    assert all(shown == read for shown, read in pairs)


def test_the_models_own_tests_pass(folder: Path) -> None:
    said = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], folder)
    assert "2 passed" in said
