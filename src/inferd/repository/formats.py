"""Which file or folder is a model of which framework: one table of files, one of folders. A name
alone says little, so what lies there has to fit it (`signs.py`). It refuses to load a model.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inferd.errors import ConfigError
from inferd.repository.signs import CONTENTS, content

LLM = "llm"


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file. `names` are those that it has in a model repository, the usual one first;
    `contents` what it may hold, in the words of `signs.py`.

    `shared` is a suffix that other files than models have as well: those are no models, and not
    damaged ones. `beside` is the suffix of a file that must stand beside it.
    """

    backend: str
    suffix: str
    names: tuple[str, ...]
    contents: tuple[str, ...]
    shared: bool = False
    beside: str = ""


@dataclass(frozen=True, slots=True)
class FolderFormat:
    """A kind of folder. `names` are those that it has inside a version's folder, which may also be
    such a folder itself."""

    backend: str
    names: tuple[str, ...]
    is_sign: Callable[[Path], bool]


FORMATS = (
    Format("onnx", ".onnx", ("model.onnx",), ("",)),
    Format("xgboost", ".json", ("model.json", "xgboost.json"), ("xgboost",), shared=True),
    Format("xgboost", ".ubj", ("model.ubj", "xgboost.ubj"), ("xgboost",)),
    Format("lightgbm", ".txt", ("model.txt",), ("lightgbm",), shared=True),
    Format("catboost", ".cbm", ("model.cbm",), ("catboost",)),
    Format("openvino", ".xml", ("model.xml",), ("openvino",), shared=True, beside=".bin"),
    Format("torch", ".pt", ("model.pt",), ("torchscript", "torch-export")),
    Format("torch", ".pt2", ("model.pt2",), ("torch-export",)),
    Format("tensorflow", ".keras", ("model.keras",), ("keras",)),
    Format("tensorflow", ".tflite", ("model.tflite",), ("tflite",)),
    Format("sklearn", ".skops", ("model.skops",), ("skops",)),
    Format("sklearn", ".joblib", ("model.joblib",), ("pickle", "packed")),
    Format("sklearn", ".pkl", ("model.pkl",), ("pickle", "packed")),
    Format("sklearn", ".pickle", ("model.pickle",), ("pickle", "packed")),
    # What follows is for a configuration that names the backend.
    Format("onnxruntime", ".onnx", ("model.onnx",), ("",)),
    Format("openvino", ".onnx", ("model.onnx",), ("",)),
    Format("openvino", ".tflite", ("model.tflite",), ("tflite",)),
)
"""Of formats with one suffix, the first that fits is taken."""

MLFLOW, SAVED_MODEL, SENTENCES = "MLmodel", "saved_model.pb", "modules.json"

ENCODERS = (
    "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM",
    "Model",
)  # fmt: skip
"""How transformers' architectures end that are no language models; but see _DECODERS."""

_DECODERS = ("LMHeadModel",)


def architectures(folder: Path) -> tuple[str, ...]:
    """What config.json names as transformers writes it; () where it does not."""
    try:
        found = json.loads((folder / "config.json").read_bytes()).get("architectures")
    except (OSError, ValueError, RecursionError, AttributeError):
        return ()
    if not isinstance(found, list):
        return ("",) if found else ()
    return tuple(str(name) for name in found)


def _is_transformer(folder: Path, encoder: bool) -> bool:
    """Whether it is a model of transformers of that kind, and no other model is there."""
    names = architectures(folder)
    if not names:
        return False
    found = any(n.endswith(ENCODERS) and not n.endswith(_DECODERS) for n in names)
    children = list(folder.iterdir())
    weights = any(child.suffix == ".safetensors" for child in children)
    return found is encoder and (weights or not any(recognise(child) for child in children))


FOLDER_FORMATS = (
    FolderFormat("mlflow", ("model.mlflow",), lambda folder: (folder / MLFLOW).is_file()),
    FolderFormat(
        "tensorflow", ("model.savedmodel",), lambda folder: (folder / SAVED_MODEL).is_file()
    ),
    FolderFormat(
        "transformers", (),
        lambda folder: (folder / SENTENCES).is_file() or _is_transformer(folder, True),
    ),
    FolderFormat(LLM, (), lambda folder: _is_transformer(folder, False)),
)  # fmt: skip

PYTHON, PYTHON_NAME = "python", "model.py"
"""Models written in Python; `python_source.py` says which classes of a file are."""

BACKENDS = (
    *dict.fromkeys((*(f.backend for f in FORMATS), *(f.backend for f in FOLDER_FORMATS), PYTHON)),
)
SUFFIXES = (*dict.fromkeys(kind.suffix for kind in FORMATS), ".py")

ENSEMBLE = "ensemble"
"""Models made of models: there is no file of one, only a configuration."""

PLATFORMS = {
    ENSEMBLE: ENSEMBLE,
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "torch",
    "tensorflow_savedmodel": "tensorflow",
    **{name: name for name in BACKENDS},
}
"""Platform, as a configuration may name it in place of a backend, to backend."""

ALIASES = {"pytorch": "torch"}
"""Names that Triton has for backends, where they differ."""

FIL = "fil"
"""Triton's backend of trees, whichever library they are of; its files say that, too."""

FIL_TYPES = {
    "xgboost_json": "xgboost", "xgboost_ubj": "xgboost", "xgboost": "xgboost",
    "lightgbm": "lightgbm",
}  # fmt: skip
"""Its parameter `model_type` to backend."""

NOT_HERE = {
    "tensorrt": "engines of TensorRT do not run here; export the model as ONNX",
    "tensorrt_plan": "engines of TensorRT do not run here; export the model as ONNX",
    "tensorflow_graphdef": "graphs without a SavedModel are not read; save it as a SavedModel",
    "caffe2_netdef": "models of Caffe2 are not read; export the model as ONNX",
    "dali": "pipelines of DALI do not run here; write the steps as a Python model",
    "tensorrtllm": "engines of TensorRT-LLM do not run here; serve the checkpoint itself",
    "vllm": "say backend: llm and put the checkpoint's config.json and *.safetensors into the "
    "version's folder",
}
"""Backends and platforms of Triton's that inferd has no like of, and what to do."""


def recognise(path: Path) -> Format | None:
    """What a file is; None for one that is no model, or cannot be read."""
    candidates = of_suffix(path)
    if not candidates or not path.is_file():
        return None
    found = content(path)
    return next((kind for kind in candidates if found in kind.contents), None)


def recognise_folder(path: Path) -> FolderFormat | None:
    """What model a folder is, as a whole; None for any other folder."""
    return next((kind for kind in FOLDER_FORMATS if kind.is_sign(path)), None)


def of_suffix(path: Path) -> list[Format]:
    """What a file could be by its name."""
    return [kind for kind in FORMATS if kind.suffix == path.suffix]


def filenames(backend: str) -> tuple[str, ...]:
    """Names of a backend's files in a model repository, the usual one first."""
    found = [name for kind in FORMATS if kind.backend == backend for name in kind.names]
    found += [n for kind in FOLDER_FORMATS if kind.backend == backend for n in kind.names]
    return (*found, PYTHON_NAME) if backend == PYTHON else tuple(found)


def is_folder_backend(backend: str) -> bool:
    """Whether a version's own folder may be a model of that backend."""
    return any(kind.backend == backend for kind in FOLDER_FORMATS)


def check_content(path: Path, backend: str = "") -> Format | None:
    """What a file is that must be a model, of that backend if one is given.

    Raises ConfigError when what it holds does not fit its name. None where the name says nothing,
    and for a folder.
    """
    kinds = [kind for kind in of_suffix(path) if backend in ("", kind.backend)]
    if not kinds or path.is_dir():
        return None
    found = content(path)
    kind = next((kind for kind in kinds if found in kind.contents), None)
    if kind is None:
        name = kinds[0].backend
        if found == "missing":
            raise ConfigError(f"{path} does not exist, or cannot be read")
        if not found:
            raise ConfigError(f"{path} does not begin as a model of {name} does, which its name "
                              "says; is it damaged?")  # fmt: skip
        raise ConfigError(
            f"{path} should be a model of {name} by its name, but it holds {CONTENTS[found]}"
        )
    if kind.beside and not path.with_suffix(kind.beside).is_file():
        raise ConfigError(f"{path} needs {path.stem}{kind.beside} beside it, which is missing")
    return kind
