import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from inferd.config.model import ModelConfig
from inferd.errors import ConfigError, InvalidRequest
from inferd.repository.sent_files import MOST_DEPTH, MOST_FILES, SentFiles, remove_forsaken


@pytest.fixture(autouse=True)
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where folders are made; in the end all of them are gone."""
    with TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


def sent(files: Mapping[str, bytes]) -> SentFiles:
    found = SentFiles(files)
    found.hold()
    return found


def test_files_are_a_model_of_their_own(folders: Path) -> None:
    files = sent({"1/model.onnx": b"one", "3/model.onnx": b"three"})
    source = files.source("m", ModelConfig(max_batch_size=2), False)
    assert (source.name, source.backend, source.config.max_batch_size) == ("m", "onnx", 2)
    assert {n: v.path.read_bytes() for n, v in source.versions.items()} == {1: b"one", 3: b"three"}
    assert source.sent is files
    assert files.folder.stat().st_mode & 0o77 == 0
    files.remove()
    assert list(folders.iterdir()) == []


def test_the_last_who_holds_them_lets_go() -> None:
    files = sent({"1/model.onnx": b""})
    files.hold()
    assert not files.let_go()
    assert files.let_go()


@pytest.mark.parametrize(
    "path",
    [
        "", "model.onnx", "1", "1/", "/1/model.onnx", "1//model.onnx", "1/../../x", "../1/x",
        "1/..", "1/./x", "0/x", "01/x", "-1/x", "1/a\0b", "1/a\\b", "1/a\nb", "1/\ud800",
        "1/" + "n" * 256, "1/" + "\u00e9" * 128, "9" * 19 + "/x", "x/model.onnx",
        "/".join(["1", *"d" * MOST_DEPTH, "x"]),
    ],
)  # fmt: skip
def test_a_path_that_is_no_models_is_refused_and_nothing_is_written(
    path: str, folders: Path
) -> None:
    with pytest.raises(InvalidRequest, match="expected <version>/<file-name>"):
        SentFiles({"1/model.onnx": b"", path: b""})
    assert list(folders.iterdir()) == []


def test_a_file_in_the_place_of_a_folder_is_refused_and_nothing_is_left(folders: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be written"):
        SentFiles({"1/a": b"", "1/a/b": b""})
    assert list(folders.iterdir()) == []


def test_too_many_files_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="may have 1000 files, not 1001"):
        SentFiles({f"1/{number}": b"" for number in range(MOST_FILES + 1)})


CLASS = b"import inferd\nclass M(inferd.Model):\n    def predict(self, x: int) -> int: return x\n"


@pytest.mark.parametrize(
    ("path", "content", "backend"),
    [
        ("1/model.py", CLASS, ""), ("1/model.pkl", b"\x80\x04.", ""),
        ("1/model.joblib", b"x\x9c", ""), ("1/model.pt", b"PK", "pytorch"),
        ("1/model.savedmodel/saved_model.pb", b"", ""), ("1/x", b"", "a.backend.of.ones.own"),
    ],
)  # fmt: skip
def test_code_from_the_network_needs_trust(path: str, content: bytes, backend: str) -> None:
    files = sent({path: content})
    config = ModelConfig(backend=backend, default_model_filename="x" if path == "1/x" else "")
    with pytest.raises(InvalidRequest, match="code from the network runs only where"):
        files.source("m", config, False)
    assert files.source("m", config, True).versions


LEAVES = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from inferd.repository.sent_files import SentFiles
SentFiles({"1/model.onnx": b"left behind"})
os._exit(0)
"""


def test_what_a_process_has_left_behind_is_removed_by_another(folders: Path) -> None:
    mine = sent({"1/model.onnx": b""})
    subprocess.run([sys.executable, "-c", LEAVES, folders], check=True)
    others = [folders / "inferd-model-x", folders / "inferd-model-a-file.held"]
    others[0].mkdir()
    others[1].touch()
    link = folders / "inferd-model-link.held"
    link.symlink_to(others[0])
    before = {*folders.iterdir()}
    remove_forsaken()
    assert {*folders.iterdir()} == {mine.folder, *others, link}
    assert len(before) == 5
    assert (mine.folder / "1/model.onnx").exists()
    mine.remove()


def test_a_configuration_of_another_model_or_without_a_file_is_refused() -> None:
    files = sent({"1/model.onnx": b""})
    with pytest.raises(ConfigError, match="name: is 'other'"):
        files.source("m", ModelConfig(name="other"), False)
    with pytest.raises(ConfigError, match="no model file"):
        sent({"1/README": b""}).source("m", ModelConfig(), False)
