"""Graphs of ensembles, written shortly: steps as `a(x=in) -> y=t`."""

import re
from collections.abc import Mapping
from typing import Any

from inferd.config.model import ModelConfig
from inferd.config.strict import decode_struct
from inferd.serving.ensembles.graph import EnsembleGraph, Member
from inferd.serving.ensembles.validation import ensemble_graph
from inferd.types.datatype import CONFIG_DATATYPES
from inferd.types.tensor import TensorSpec

_STEP = re.compile(r"(\w+)\((.*)\) -> (.*)")


def pairs(text: str) -> dict[str, str]:
    return dict(part.split("=") for part in text.replace(" ", "").split(",") if part)


def steps(*written: str) -> list[dict[str, Any]]:
    found = []
    for text in written:
        match = _STEP.fullmatch(text)
        assert match is not None, text
        name, inputs, outputs = match.groups()
        found.append({"model_name": name, "input_map": pairs(inputs), "output_map": pairs(outputs)})
    return found


def tensor(name: str, type: str = "TYPE_FP32", dims: tuple[int, ...] = (4,)) -> dict[str, Any]:
    return {"name": name, "data_type": type, "dims": list(dims)}


def spec(name: str, type: str = "TYPE_FP32", *shape: int, optional: bool = False) -> TensorSpec:
    return TensorSpec(name, CONFIG_DATATYPES[type], shape or (-1, 4), optional)


def member(
    inputs: str = "x", outputs: str = "y", max_batch_size: int = 8, streams: bool = False
) -> Member:
    """A model of FP32 rows of 4; the names of its tensors have a letter each."""
    return Member(max_batch_size, tuple(map(spec, inputs)), tuple(map(spec, outputs)), streams)


def config(
    *written: str, inputs: str = "in", outputs: str = "out", max_batch_size: int = 8, **more: Any
) -> ModelConfig:
    inflight = more.pop("max_inflight_requests", 0)
    document = {
        "platform": "ensemble",
        "max_batch_size": max_batch_size,
        "input": [tensor(name) for name in inputs.split()],
        "output": [tensor(name) for name in outputs.split()],
        "ensemble_scheduling": {"step": steps(*written), "max_inflight_requests": inflight},
        **more,
    }
    return decode_struct(document, ModelConfig, file="")


def graph(*written: str, members: Mapping[str, Member] | None = None, **more: Any) -> EnsembleGraph:
    """The graph of steps; models that `members` do not have are those of `member()`."""
    said = config(*written, **more)
    assert said.ensemble_scheduling is not None
    found = [
        (members or {}).get(step.model_name, member()) for step in said.ensemble_scheduling.step
    ]
    return ensemble_graph("e", said, found)
