"""Server and model metadata as the Open Inference Protocol prints them. Pure."""

from typing import Any

from inferd.types.model import ModelMetadata
from inferd.types.tensor import TensorSpec

EXTENSIONS = (
    "classification", "model_repository", "model_repository(unload_dependents)", "schedule_policy",
    "sequence", "model_configuration", "binary_tensor_data", "parameters", "statistics",
    "trace", "logging",
)  # fmt: skip
"""Extensions that are served; the others of Triton's are announced when they are."""


def server_metadata(name: str, version: str, shared_memory: bool = False) -> dict[str, Any]:
    """Body of `GET /v2`; shared memory is an extension where it is on."""
    extensions = [*EXTENSIONS, *(("system_shared_memory",) if shared_memory else ())]
    return {"name": name, "version": version, "extensions": extensions}


def model_metadata(metadata: ModelMetadata) -> dict[str, Any]:
    """Body of `GET /v2/models/{name}`."""
    return {
        "name": metadata.name,
        "versions": list(metadata.versions),
        "platform": metadata.platform,
        "inputs": [_tensor(spec) for spec in metadata.inputs],
        "outputs": [_tensor(spec) for spec in metadata.outputs],
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.name, "shape": list(spec.shape)}
