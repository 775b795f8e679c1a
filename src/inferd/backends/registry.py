"""Which backends there are: a literal table, then entry points in the same format.

A backend whose framework is not installed is one clear error that names the extra to install.
"""

import importlib
from asyncio import AbstractEventLoop
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from inferd.backends.base import Backend, LanguageModel, Model, OpenOptions
from inferd.backends.shaping import LaidOutModel, has_layout, own_config
from inferd.config.model import ModelConfig
from inferd.errors import ConfigError

BACKENDS = {
    "onnx": "inferd.backends.onnx:OnnxBackend",
    "onnxruntime": "inferd.backends.onnxruntime:OnnxRuntimeBackend",
    "openvino": "inferd.backends.openvino:OpenVinoBackend",
    "torch": "inferd.backends.torch:TorchBackend",
    "tensorflow": "inferd.backends.tensorflow:TensorFlowBackend",
    "mlflow": "inferd.backends.mlflow:MlflowBackend",
    "xgboost": "inferd.backends.xgboost:XGBoostBackend",
    "lightgbm": "inferd.backends.lightgbm:LightGBMBackend",
    "catboost": "inferd.backends.catboost:CatBoostBackend",
    "sklearn": "inferd.backends.sklearn:SklearnBackend",
    "transformers": "inferd.backends.transformers:TransformersBackend",
    "python": "inferd.backends.python:PythonBackend",
}
"""Name of a backend to `module:class`."""

LLM = "llm"
"""The backend of language models: inferd's own engine."""

EXTRAS = {"onnxruntime": "onnx", LLM: "llm"}

ISOLATED = frozenset({"python", "sklearn", "mlflow"})
"""Backends that run in a worker process: their models hold Python's lock while they compute, or run
code of their own."""

ENTRY_POINT_GROUP = "inferd.backends"


def isolated(name: str, config: ModelConfig) -> bool:
    """Whether a model runs in worker processes."""
    return name in ISOLATED if config.isolation == "auto" else config.isolation == "process"


def create_backend(name: str) -> Backend:
    """The backend of that name; raises ConfigError when it is unknown or not installed."""
    target = BACKENDS.get(name)
    if target is None:
        found = {e.name: e.value for e in entry_points(group=ENTRY_POINT_GROUP)}
        target = found.get(name)
        if target is None:
            known = ", ".join(sorted({*BACKENDS, *found}))
            raise ConfigError(f"unknown backend '{name}'; known are: {known}", field="backend")
    make: Callable[[], Backend] = _imported(name, target)
    return make()


def open_model(name: str, path: Path, config: ModelConfig, options: OpenOptions) -> Model:
    """A model of a backend, with the tensors that its clients know; see Backend.open."""
    backend = create_backend(name)
    if not has_layout(config):
        return backend.open(path, config, options)
    model = backend.open(path, own_config(config), options)
    try:
        return LaidOutModel(model, config)
    except BaseException:
        model.close()
        raise


def open_language_model(
    folder: Path, config: ModelConfig, options: Mapping[str, object],
    loop: AbstractEventLoop, progress: Callable[[int, int], None] | None,
) -> LanguageModel:  # fmt: skip
    """A language model that has not started; blocks. `options` are the server's for every engine,
    `progress` is told of bytes done and in all.

    Raises ConfigError or Unsupported.
    """
    make: Callable[..., LanguageModel] = _imported(LLM, "inferd.backends.llm:EngineModel")
    return make(folder, config, options, loop, progress)


def _imported(name: str, target: str) -> Callable[..., Any]:
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        extra = EXTRAS.get(name, name)
        raise ConfigError(
            f"backend '{name}' needs a package that is not installed ({error}); "
            f"install it with: pip install 'inferd[{extra}]'"
        ) from error
    found: Callable[..., Any] = getattr(module, attribute)
    return found
