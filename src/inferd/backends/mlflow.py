"""MLflow model folders: by their own flavour where inferd has a backend for it, which needs no
MLflow; otherwise as a Python function, which runs whatever code the folder holds, so it takes
trust. The parameter `flavor` chooses another of the folder's flavours.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from inferd.backends.base import Model, OpenOptions
from inferd.backends.registry import BACKENDS, create_backend
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError, Unsupported

DESCRIPTION = "MLmodel"
"""The file that makes a folder a model of MLflow."""

PYFUNC = "python_function"


@dataclass(frozen=True, slots=True)
class Flavour:
    """Where MLflow keeps a model of a backend: the first of `fields` that the flavour has names
    the file or folder; `suffixes` are those that the backend reads, none for any."""

    backend: str
    fields: tuple[str, ...]
    suffixes: tuple[str, ...] = ()


FLAVOURS = {
    "onnx": Flavour("onnx", ("data",), (".onnx",)),
    "xgboost": Flavour("xgboost", ("data",), (".json", ".ubj", ".xgb")),
    "lightgbm": Flavour("lightgbm", ("data",), (".txt", ".lgb")),
    "catboost": Flavour("catboost", ("data",), (".cbm", ".cb")),
    "tensorflow": Flavour("tensorflow", ("saved_model_dir", "data")),
    "keras": Flavour("tensorflow", ("data",)),
    "sklearn": Flavour("sklearn", ("pickled_model",), (".pkl", ".pickle", ".joblib", ".skops")),
}


class MlflowBackend:
    """Opens folders with an `MLmodel` file."""

    name = "mlflow"
    platform = "mlflow"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> Model:
        """Open a model folder; see Backend."""
        folder = path.parent if path.name == DESCRIPTION else path
        flavours = _flavours(folder)
        chosen = _chosen(config, flavours)
        refusal = ""
        for name in (chosen,) if chosen else FLAVOURS:
            target = _own(folder, name, flavours.get(name))
            if target is None:
                continue
            backend, file = target
            try:
                model = create_backend(backend).open(file, config, options)
            except Unsupported as error:
                if chosen or not options.trust:
                    raise
                refusal = f"; not by its flavour {name}: {error}"
                continue
            note = f"MLflow's flavour {name}, {file.name}, by backend {backend}"
            model.description = replace(model.description, notes=(note, *model.description.notes))
            return model
        return _as_function(folder, flavours, config, options, refusal)


def _as_function(
    folder: Path, flavours: dict[str, Any], config: ModelConfig, options: OpenOptions, refusal: str
) -> Model:
    if PYFUNC not in flavours:
        raise Unsupported(f"{folder.name} has no flavour that can be served; it has: "
                          f"{', '.join(flavours) or 'none'}")  # fmt: skip
    if not options.trust:
        raise Unsupported(
            f"{folder.name} is served as a Python function, which runs code of the folder; serve "
            "it with --trust if you know where it comes from"
        )
    try:
        from inferd.backends.mlflow_function import FunctionModel
    except ImportError as error:
        raise ConfigError(
            f"backend 'mlflow' needs a package that is not installed ({error}); install it with: "
            "pip install 'inferd[mlflow]'"
        ) from error
    note = f"MLflow's Python function, {flavours[PYFUNC].get('loader_module', '')}{refusal}"
    return FunctionModel(folder, config, note)


def _flavours(folder: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load((folder / DESCRIPTION).read_text())
        return {str(name): dict(options) for name, options in document["flavors"].items()}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError,
            AttributeError) as error:  # fmt: skip
        words = str(error).splitlines()[0]
        raise BackendError(f"MLflow's {DESCRIPTION} in {folder.name} cannot be read: "
                           f"{type(error).__name__}: {words}") from error  # fmt: skip


def _chosen(config: ModelConfig, flavours: dict[str, Any]) -> str:
    chosen = config.parameter("flavor")
    if chosen and chosen not in flavours:
        raise ConfigError(
            f"there is no flavour '{chosen}'; there are: {', '.join(flavours)}",
            field="parameters.flavor",
        )
    return chosen


def _own(folder: Path, name: str, options: dict[str, Any] | None) -> tuple[str, Path] | None:
    """Backend and file of a flavour; None where inferd has no backend that reads it."""
    flavour = FLAVOURS.get(name)
    if flavour is None or options is None or flavour.backend not in BACKENDS:
        return None
    relative = next((options[field] for field in flavour.fields if options.get(field)), None)
    if not isinstance(relative, str):
        return None
    file = folder / relative
    if not file.resolve().is_relative_to(folder.resolve()):
        raise BackendError(f"MLflow's flavour {name} of {folder.name} points out of the folder: "
                           f"{relative}")  # fmt: skip
    if flavour.backend == "tensorflow" and not (file / "saved_model.pb").is_file():
        file = next(iter(sorted(file.glob("*.keras"))), file)
    if flavour.suffixes and file.suffix not in flavour.suffixes:
        return None
    return flavour.backend, file
