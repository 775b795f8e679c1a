"""Statistics of served models as Triton's statistics extension prints them."""

from typing import Any

from inferd.errors import InferdError, InvalidRequest
from inferd.observability.statistics import Duration
from inferd.serving.control_plane import ControlPlane
from inferd.serving.served_model import ServedModel


def statistics(control: ControlPlane, name: str = "", version: str = "") -> dict[str, Any]:
    """Statistics of one model, or of all; raises InvalidRequest."""
    try:
        served = control.models(name, version)
    except InferdError as error:
        raise InvalidRequest(
            f"requested model '{name}'{f' version {version}' if version else ''} is not "
            f"available, no statistics: {error}"
        ) from error
    return {"model_stats": [model_statistics(model) for model in served]}


def model_statistics(served: ServedModel) -> dict[str, Any]:
    """One entry of `model_stats`; durations in nanoseconds."""
    counted = served.statistics
    return {
        "name": served.name,
        "version": str(served.version),
        "last_inference": counted.last_inference_ms,
        "inference_count": counted.inference_count,
        "execution_count": counted.execution_count,
        "inference_stats": {
            "success": _duration(counted.success),
            "fail": _duration(counted.fail),
            "queue": _duration(counted.queue),
            "compute_input": _duration(counted.compute_input),
            "compute_infer": _duration(counted.compute_infer),
            "compute_output": _duration(counted.compute_output),
            "cache_hit": _duration(counted.cache_hit),
            "cache_miss": _duration(counted.cache_miss),
        },
        "response_stats": {
            str(place): {
                "compute_infer": _duration(response.compute_infer),
                "compute_output": _duration(response.compute_output),
                "success": _duration(response.success),
                "fail": _duration(response.fail),
                "empty_response": _duration(response.empty_response),
                "cancel": _duration(response.cancel),
            }
            for place, response in sorted(counted.responses.items())
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(size.compute_input),
                "compute_infer": _duration(size.compute_infer),
                "compute_output": _duration(size.compute_output),
            }
            for rows, size in sorted(counted.batch_sizes.items())
        ],
        "memory_usage": [],
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
