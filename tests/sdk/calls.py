"""Short ways to bring a class to life and to run it on tensors."""

from typing import Any

import numpy as np

from inferd.errors import InferdError
from inferd.sdk.call import Call, Outcome
from inferd.sdk.model import Model
from inferd.sdk.runtime import ModelRuntime
from inferd.types.tensor import Array


def texts(*values: str | bytes) -> Array:
    """A BYTES tensor."""
    array = np.empty(len(values), object)
    array[:] = [v.encode() if isinstance(v, str) else v for v in values]
    return array


def loaded(model_class: type[Model], **keywords: Any) -> ModelRuntime:
    runtime = ModelRuntime(model_class, **keywords)
    runtime.load()
    return runtime


def run(model: type[Model] | ModelRuntime, *arrays: Array | None, rows: list[int] | None = None,
        method: str = "predict", sessions: list[str] | None = None) -> list[Outcome]:  # fmt: skip
    runtime = model if isinstance(model, ModelRuntime) else loaded(model)
    return runtime.run(Call(method, list(arrays), rows or [1], sessions or []))


def outputs(outcome: Outcome) -> list[Any]:
    """The outputs of an outcome that must not be an error, as lists."""
    assert not isinstance(outcome, InferdError), outcome
    return [array.tolist() for array in outcome]


def failure(outcome: Outcome, kind: type[InferdError]) -> str:
    """The words of an outcome that must be an error of exactly that kind."""
    assert type(outcome) is kind, outcome
    return str(outcome)
