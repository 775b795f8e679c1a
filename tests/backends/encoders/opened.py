"""An encoder opened by the backend, and asked for texts."""

from pathlib import Path
from typing import Any

import numpy as np

from inferd.backends.base import Model, OpenOptions
from inferd.backends.transformers import TransformersBackend
from inferd.config.model import ModelConfig
from inferd.types.tensor import Array


def texts(*values: str) -> Array:
    """A BYTES array [N]."""
    array = np.empty(len(values), np.object_)
    array[:] = [value.encode() for value in values]
    return array


def opened(folder: Path, *, trust: bool = False, **parameters: Any) -> Model:
    """The model, with these parameters in its configuration."""
    return TransformersBackend().open(
        folder, ModelConfig(parameters=parameters), OpenOptions(1, trust)
    )


def ask(model: Model, **columns: tuple[str, ...] | list[str]) -> dict[str, Array]:
    """Every output by name; an input that is not given is left out."""
    inputs = [texts(*columns.get(spec.name, ())) for spec in model.description.inputs]
    instance = model.create_instance()
    found = instance.run(inputs)
    instance.close()
    names = [spec.name for spec in model.description.outputs]
    for spec, array in zip(model.description.outputs, found, strict=True):
        assert array.dtype == spec.datatype.dtype, spec
        assert array.shape[1:] == spec.shape[1:], spec
    return dict(zip(names, found, strict=True))
