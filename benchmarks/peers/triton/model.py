"""Triton: a model of its Python backend that answers with what it is given."""

import triton_python_backend_utils as triton


class TritonPythonModel:
    """One tensor in and the same tensor out."""

    def execute(self, requests):  # type: ignore[no-untyped-def]
        """Answers a batch of requests."""
        return [
            triton.InferenceResponse([triton.Tensor("y", request.inputs()[0].as_numpy())])
            for request in requests
        ]
