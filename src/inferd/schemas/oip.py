"""JSON of the Open Inference Protocol. Unknown fields are ignored, as the protocol's servers do."""

from typing import Any

import msgspec

Parameters = dict[str, bool | int | float | str]


class InferInput(msgspec.Struct):
    """One input; `data` is absent when it comes in binary."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: Any = None


class InferOutput(msgspec.Struct):
    """One output that is asked for."""

    name: str
    parameters: Parameters | None = None


class InferRequest(msgspec.Struct):
    """The body of an inference request, or its JSON part."""

    inputs: list[InferInput]
    id: str = ""
    parameters: Parameters | None = None
    outputs: list[InferOutput] | None = None


class FloatInput(InferInput):
    """An input that holds numbers and nothing else."""

    data: list[float] = []


class FloatRequest(InferRequest):
    """A request for a model of floats, with flat data."""

    inputs: list[FloatInput]  # type: ignore[assignment]


class IntInput(InferInput):
    """An input that holds whole numbers and nothing else."""

    data: list[int] = []


class IntRequest(InferRequest):
    """A request for a model of integers, with flat data."""

    inputs: list[IntInput]  # type: ignore[assignment]


class StepParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters that say where in which sequence a request stands, and nothing else."""

    sequence_id: int | str
    sequence_start: bool = False
    sequence_end: bool = False


class FloatStepRequest(FloatRequest):
    """A request of a sequence, of floats."""

    parameters: StepParameters | None = None  # type: ignore[assignment]


class IntStepRequest(IntRequest):
    """A request of a sequence, of whole numbers."""

    parameters: StepParameters | None = None  # type: ignore[assignment]


class RepositoryIndexRequest(msgspec.Struct):
    """Optional body of the repository index."""

    ready: bool = False


class LoadRequest(msgspec.Struct):
    """Optional body of a model load; `config` is JSON text."""

    parameters: dict[str, str] = {}


class UnloadRequest(msgspec.Struct):
    """Optional body of a model unload."""

    parameters: Parameters = {}


class RegisterRequest(msgspec.Struct):
    """Body of the registration of system shared memory: an object's name, and a part of it."""

    key: str = ""
    byte_size: int = 0
    offset: int = 0
