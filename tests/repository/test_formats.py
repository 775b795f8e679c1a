import json
import pickle
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from inferd.errors import ConfigError
from inferd.repository.formats import BACKENDS, PLATFORMS, check_content, filenames, recognise
from inferd.repository.layout import scan


def archive(path: Path, names: Iterable[str]) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    content = path.read_bytes()
    path.unlink()
    return content


TORCHSCRIPT = ("m/data.pkl", "m/code/__torch__/m.py", "m/constants.pkl", "m/version")
EXPORTED = ("m/archive_format", "m/models/model.json", "m/data/weights/weight_0")
KERAS = ("metadata.json", "config.json", "model.weights.h5")
SKOPS = ("1.npy", "schema.json")

HEADS: dict[str, tuple[bytes | tuple[str, ...], str]] = {
    "a.onnx": (b"\x08\x07", "onnx"),
    "b.json": (b'{"learner":{"attributes":{}', "xgboost"),
    "c.ubj": (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{", "xgboost"),
    "d.txt": (b"tree\nversion=v4\n", "lightgbm"),
    "e.cbm": (b"CBM1\x00\x00", "catboost"),
    "f.xml": (b'<?xml version="1.0"?>\n<net name="m" version="11">', "openvino"),
    "g.pt": (TORCHSCRIPT, "torch"),
    "h.pt": (EXPORTED, "torch"),
    "i.pt2": (EXPORTED, "torch"),
    "j.keras": (KERAS, "tensorflow"),
    "k.tflite": (b"\x1c\x00\x00\x00TFL3\x14\x00", "tensorflow"),
    "l.skops": (SKOPS, "sklearn"),
    "m.pkl": (pickle.dumps(1), "sklearn"),
    "n.joblib": (zlib.compress(pickle.dumps(1)), "sklearn"),
    "o.pickle": (pickle.dumps(1, protocol=2), "sklearn"),
}
OTHERS = {
    "config.json": b'{"name": "x"}', "labels.txt": b"cat\ndog\n", "pom.xml": b"<project/>",
    "g.onnx.bak": b"x", "README.md": b"#", "f.bin": b"weights", "tool.py": b"import os\n",
}  # fmt: skip


def written(path: Path, content: bytes | tuple[str, ...]) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else archive(path, content))
    return path


def test_files_are_recognised_by_name_and_content(tmp_path: Path) -> None:
    for name, content in ({n: c for n, (c, _) in HEADS.items()} | OTHERS).items():
        written(tmp_path / name, content)
    (tmp_path / "p.json").mkdir()
    assert {n: (s.backend, s.error) for n, s in scan([tmp_path]).items()} == {
        Path(name).stem: (backend, "") for name, (_, backend) in HEADS.items()
    }
    assert recognise(tmp_path / "missing.json") is None
    assert recognise(tmp_path / "p.json") is None


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("m.json", b'{"a": 1}', "should be a model of xgboost by its name, but it holds JSON"),
        ("m.txt", b"hello", "does not begin as a model of lightgbm"),
        ("m.bin", b"x", "not a model file that inferd knows"),
        ("m.cbm", b"tree\n", "it holds trees of LightGBM"),
        ("m.onnx", pickle.dumps([1]), "model of onnx by its name, but it holds a Python pi"),
        ("m.onnx", TORCHSCRIPT, "it holds TorchScript"),
        ("m.pkl", b"CBM1", "it holds trees of CatBoost"),
        ("m.pt", ("m/data.pkl", "m/version"), r"torch\.save wrote, without the code"),
        ("m.pt", b"PK\x03\x04 cut off", "an archive that is damaged"),
        ("m.pt2", TORCHSCRIPT, "it holds TorchScript"),
        ("m.keras", b"\x89HDF\r\n\x1a\n", "save it as .keras"),
        ("m.skops", KERAS, "it holds a Keras model"),
        ("m.tflite", b"", "it holds nothing at all"),
        ("m.xml", b"<net/>", "needs m.bin beside it"),
    ],
)
def test_a_file_that_was_named_must_be_what_its_name_says(
    name: str, content: bytes | tuple[str, ...], told: str, tmp_path: Path
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(ConfigError, match=told):
        scan([path])


def test_among_others_a_file_that_is_no_model_is_told_and_they_are_served(tmp_path: Path) -> None:
    written(tmp_path / "bad.cbm", b"tree\n")
    written(tmp_path / "good.cbm", b"CBM1")
    sources = scan([tmp_path])
    assert "it holds trees of LightGBM" in sources["bad"].error
    assert sources["good"].error == ""


@pytest.mark.parametrize(
    ("filename", "config", "backend"),
    [
        ("model.ubj", "", "xgboost"),
        ("xgboost.json", "", "xgboost"),
        ("model.txt", "backend: lightgbm", "lightgbm"),
        ("best.cbm", "default_model_filename: best.cbm", "catboost"),
        ("net.pt", "default_model_filename: net.pt", "torch"),
        ("net.json", "default_model_filename: net.json", "xgboost"),
        ("net.skops", "default_model_filename: net.skops", "sklearn"),
        ("net.tflite", "default_model_filename: net.tflite", "tensorflow"),
        ("net", "{backend: onnxruntime, default_model_filename: net}", "onnxruntime"),
        ("net", "{platform: pytorch_libtorch, default_model_filename: net}", "torch"),
        ("model.onnx", "backend: openvino", "openvino"),
        ("model.pt", "platform: pytorch_libtorch", "torch"),
        ("model.pt2", "backend: pytorch", "torch"),
        ("model.keras", "", "tensorflow"),
        ("model.joblib", "", "sklearn"),
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


def test_of_several_files_the_one_that_fits_its_name_is_taken(tmp_path: Path) -> None:
    version = tmp_path / "m" / "1"
    version.mkdir(parents=True)
    (version / "model.json").write_bytes(b'{"notes": 1}')
    written(version / "model.keras", KERAS)
    (source,) = scan([tmp_path]).values()
    assert (source.backend, source.versions[1].path.name) == ("tensorflow", "model.keras")


def transformer(folder: Path, architecture: str) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    (folder / "model.safetensors").write_bytes(b"x")


FOLDERS = {
    "mlflow": lambda folder: (folder / "MLmodel").write_text("flavors: {}"),
    "tensorflow": lambda folder: (folder / "saved_model.pb").write_bytes(b"x"),
    "BertModel": lambda folder: transformer(folder, "BertModel"),
    "BertForMaskedLM": lambda folder: transformer(folder, "BertForMaskedLM"),
    "Qwen3ForSequenceClassification": lambda f: transformer(f, "Qwen3ForSequenceClassification"),
    "sentences": lambda folder: (folder / "modules.json").write_text("[]"),
    "LlamaForCausalLM": lambda folder: transformer(folder, "LlamaForCausalLM"),
    "GPT2LMHeadModel": lambda folder: transformer(folder, "GPT2LMHeadModel"),
    "T5ForConditionalGeneration": lambda f: transformer(f, "T5ForConditionalGeneration"),
}
BACKEND_OF = {"mlflow": "mlflow", "tensorflow": "tensorflow", "sentences": "transformers"}


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("place", ["itself", "child", "version"])
def test_folders_are_recognised_wherever_they_stand(kind: str, place: str, tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1" if place == "version" else tmp_path / "m"
    folder.mkdir(parents=True)
    FOLDERS[kind](folder)
    (source,) = scan([tmp_path if place == "child" else tmp_path / "m"]).values()
    llm = kind.endswith(("CausalLM", "LMHeadModel", "Generation"))
    backend = BACKEND_OF.get(kind, "llm" if llm else "transformers")
    assert (source.name, source.backend, source.error) == ("m", backend, "")
    assert source.versions[1].path == folder
    before = source.versions[1].fingerprint
    (folder / "more.txt").write_text("changed")
    (source,) = scan([tmp_path]).values()
    assert source.versions[1].fingerprint != before


def test_tritons_name_for_a_saved_model_is_found_inside_a_version(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "2" / "model.savedmodel"
    folder.mkdir(parents=True)
    FOLDERS["tensorflow"](folder)
    (source,) = scan([tmp_path]).values()
    assert (source.backend, source.versions[2].path) == ("tensorflow", folder)


def test_a_folder_of_one_framework_is_not_anothers(tmp_path: Path) -> None:
    FOLDERS["mlflow"](tmp_path)
    (tmp_path / "config.yaml").write_text("backend: llm")
    (source,) = scan([tmp_path]).values()
    assert "needs 'mlflow'" in source.error


def test_every_backend_has_a_name_of_its_own_for_its_models() -> None:
    for backend in BACKENDS:
        assert PLATFORMS[backend] == backend
        for name in filenames(backend):
            assert "/" not in name


def test_a_folder_and_a_foreign_backends_file_are_not_looked_into(tmp_path: Path) -> None:
    assert check_content(tmp_path, "tensorflow") is None
    assert check_content(tmp_path / "model.onnx", "my-own") is None


# -- names on the command line --------------------------------------------------------------------


def test_a_name_may_be_chosen(tmp_path: Path) -> None:
    path = written(tmp_path / "model.cbm", b"CBM1")
    folder = tmp_path / "iris" / "1"
    folder.mkdir(parents=True)
    written(folder / "model.cbm", b"CBM1")
    sources = scan([Path(f"a={path}"), Path(f"b={path}"), Path(f"c={tmp_path / 'iris'}")])
    assert {name: source.name for name, source in sources.items()} == {"a": "a", "b": "b", "c": "c"}
    assert sources["b"].versions[1].path == path
    assert sources["c"].versions[1].path == folder / "model.cbm"


def test_a_path_with_an_equals_sign_is_a_path(tmp_path: Path) -> None:
    path = written(tmp_path / "lr=0.1.cbm", b"CBM1")
    assert set(scan([path])) == {"lr=0.1"}
    (tmp_path / "x=1").mkdir()
    assert set(scan([path.rename(tmp_path / "x=1" / "m.cbm")])) == {"m"}


@pytest.mark.parametrize("form", ["={}", "a=", "several={}"])
def test_a_name_without_one_model_is_refused(form: str, tmp_path: Path) -> None:
    written(tmp_path / "a.cbm", b"CBM1")
    written(tmp_path / "b.cbm", b"CBM1")
    with pytest.raises(ConfigError, match=r"expected name=path|a name is for one model"):
        scan([Path(form.format(tmp_path))])


@pytest.mark.parametrize("kind", ["tensorflow", "mlflow", "LlamaForCausalLM", "BertModel"])
def test_a_folder_may_be_named_as_a_versions_model(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1" / "net.saved"
    folder.mkdir(parents=True)
    FOLDERS[kind](folder)
    (tmp_path / "m" / "config.yaml").write_text("default_model_filename: net.saved")
    (source,) = scan([tmp_path]).values()
    assert (source.error, source.versions[1].path) == ("", folder)
    assert source.backend in ("tensorflow", "mlflow", "llm", "transformers")


def test_a_language_model_is_its_folder_whichever_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    FOLDERS["LlamaForCausalLM"](folder)
    config = "{backend: llm, default_model_filename: model.safetensors}"
    (tmp_path / "m" / "config.yaml").write_text(config)
    (source,) = scan([tmp_path]).values()
    assert (source.error, source.versions[1].path) == ("", folder)


@pytest.mark.parametrize(("named", "told"), [("missing.onnx", True), ("other.onnx", True),
                                             ("config.json", False)])  # fmt: skip
def test_a_folder_that_is_a_model_is_not_asked_for_another(
    named: str, told: bool, tmp_path: Path
) -> None:
    FOLDERS["BertModel"](tmp_path)
    (tmp_path / "other.onnx").write_bytes(b"x")
    (tmp_path / "config.yaml").write_text(f"default_model_filename: {named}")
    (source,) = scan([tmp_path]).values()
    assert ("default_model_filename" in source.error) is told
