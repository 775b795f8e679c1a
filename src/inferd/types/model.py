"""What is publicly known of a model: its state and its metadata."""

from dataclasses import dataclass
from enum import Enum

from inferd.types.tensor import TensorSpec


class ModelReadyState(Enum):
    """The one public life cycle, with Triton's names."""

    UNKNOWN = "UNKNOWN"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One line of the repository index. `version` 0 is a model that was never loaded."""

    name: str
    version: int
    state: ModelReadyState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a client is told about a served model; shapes include the batch dimension."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
