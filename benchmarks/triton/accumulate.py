"""Adds up what it is given: of a sequence, so far; of a request without one, the request alone."""

import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    """One tensor in, the sum of its sequence out."""

    def initialize(self, args):  # type: ignore[no-untyped-def]
        """Starts without sequences."""
        self.sums = {}

    def execute(self, requests):  # type: ignore[no-untyped-def]
        """Answers a batch of requests, at most one of each sequence."""
        return [triton.InferenceResponse([self.answer(request)]) for request in requests]

    def answer(self, request):  # type: ignore[no-untyped-def]
        """The sum behind one request."""
        x = triton.get_input_tensor_by_name(request, "x").as_numpy()
        start = triton.get_input_tensor_by_name(request, "START")
        if start is None:
            return triton.Tensor("y", x)
        id = triton.get_input_tensor_by_name(request, "CORRID").as_numpy().item()
        so_far = 0 if start.as_numpy().item() else self.sums[id]
        total = self.sums[id] = np.add(x, so_far, dtype=np.float32)
        return triton.Tensor("y", total)
