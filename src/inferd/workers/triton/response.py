"""The answer to a request, or why there is none."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from inferd.types.inference import Parameters
from inferd.workers.triton.error import TritonError, TritonModelException
from inferd.workers.triton.tensor import Tensor


class InferenceResponse:
    """Output tensors, or an error; then the tensors do not count."""

    __slots__ = ("_error", "_parameters", "_tensors")

    def __init__(
        self, output_tensors: Iterable[Tensor] = (), error: TritonError | str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        tensors = output_tensors if type(output_tensors) is list else [*output_tensors]
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                if tensor is None:
                    raise TritonModelException(
                        "Output tensor for inference response should not be empty."
                    )
                raise TypeError(f"an output is a Tensor, not '{type(tensor).__name__}'")
        if error is not None and not isinstance(error, TritonError):
            error = TritonError(str(error))
        self._tensors = tensors
        self._error = error
        self._parameters = checked_parameters(parameters) if parameters else None

    def output_tensors(self) -> list[Tensor]:
        """The outputs."""
        return self._tensors

    def has_error(self) -> bool:
        """Whether there is no answer."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """Why there is no answer."""
        return self._error

    def parameters(self) -> str:
        """The parameters as JSON."""
        return json.dumps(self._parameters or {})

    # What only inferd asks.

    @property
    def said(self) -> dict[str, Any] | None:
        """The parameters, if there are any."""
        return self._parameters


def checked_parameters(parameters: Mapping[str, Any] | Parameters) -> dict[str, Any]:
    """Parameters that can be sent, plain also where numpy's scalars look like it; raises
    TritonModelException."""
    plain: dict[str, Any] = {}
    for name, value in parameters.items():
        if not isinstance(name, str):
            raise TritonModelException(
                f"Expect parameters keys to have type str, found type {type(name)}"
            )
        kind = next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), None)
        if kind is None:
            raise TritonModelException(
                f"Expect parameters values to have type bool/int/str, found type {type(value)}"
            )
        plain[name] = kind(value)
    return plain
