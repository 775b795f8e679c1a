from pathlib import Path

import pytest

from inferd.errors import ConfigError
from inferd.repository.formats import recognise
from inferd.repository.layout import scan

HEADS = {
    "a.onnx": (b"\x08\x07", "onnxruntime"),
    "b.json": (b'{"learner":{"attributes":{}', "xgboost"),
    "c.ubj": (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{", "xgboost"),
    "d.txt": (b"tree\nversion=v4\n", "lightgbm"),
    "e.cbm": (b"CBM1\x00\x00", "catboost"),
}
OTHERS = {
    "config.json": b'{"name": "x"}', "labels.txt": b"cat\ndog\n", "f.cbm": b"tree\n",
    "g.onnx.bak": b"x", "README.md": b"#",
}  # fmt: skip


def test_files_are_recognised_by_name_and_beginning(tmp_path: Path) -> None:
    for name, content in ({n: c for n, (c, _) in HEADS.items()} | OTHERS).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "h.json").mkdir()
    assert {n: s.backend for n, s in scan([tmp_path]).items()} == {
        Path(name).stem: backend for name, (_, backend) in HEADS.items()
    }
    assert recognise(tmp_path / "missing.json") is None
    assert recognise(tmp_path / "h.json") is None


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("m.json", b'{"a": 1}', "does not begin as a model of xgboost"),
        ("m.txt", b"hello", "does not begin as a model of lightgbm"),
        ("m.bin", b"x", "not a model file that inferd knows"),
    ],
)
def test_a_file_that_was_named_must_be_what_its_name_says(
    name: str, content: bytes, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=told):
        scan([tmp_path / name])


@pytest.mark.parametrize(
    ("filename", "config", "backend"),
    [
        ("model.ubj", "", "xgboost"),
        ("xgboost.json", "", "xgboost"),
        ("model.txt", "backend: lightgbm", "lightgbm"),
        ("best.cbm", "default_model_filename: best.cbm", "catboost"),
    ],
)
def test_a_repository_holds_models_of_every_kind(
    filename: str, config: str, backend: str, tmp_path: Path
) -> None:
    version = tmp_path / "m" / "1"
    version.mkdir(parents=True)
    (version / filename).write_bytes(b"x")
    (tmp_path / "m" / "config.yaml").write_text(config)
    (source,) = scan([tmp_path]).values()
    assert (source.backend, source.error) == (backend, "")
    assert source.versions[1].path == version / filename
