"""Requests of a model's methods, `predict` and perhaps `explain`, as they are queued. Pure."""

from inferd.batching.queue import OnDone, QueuedRequest
from inferd.errors import InvalidRequest
from inferd.serving.validation import RequestValidator
from inferd.types.inference import InferenceRequest
from inferd.types.signature import Signature, signature_specs
from inferd.types.tensor import TensorSpec


class Methods:
    """The methods of one model version, of which `predict` takes and gives these; `ragged` as of a
    RequestValidator."""

    def __init__(
        self, name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...],
        explain: Signature | None, max_batch_size: int, ragged: frozenset[int],
    ) -> None:  # fmt: skip
        self._name = name
        self._predict = RequestValidator(name, inputs, outputs, max_batch_size, ragged)
        self._explain: RequestValidator | None = None
        self.explain_inputs: tuple[TensorSpec, ...] = ()
        self._explain_outputs: tuple[TensorSpec, ...] = ()
        if explain is not None:
            batched = max_batch_size > 0
            inputs = self.explain_inputs = signature_specs(explain.inputs, batched)
            outputs = self._explain_outputs = signature_specs(explain.outputs, batched)
            self._explain = RequestValidator(name, inputs, outputs, max_batch_size)

    def queued(self, request: InferenceRequest, on_done: OnDone, arrival_ns: int) -> QueuedRequest:
        """A request as it is queued; raises InvalidRequest naming what does not fit."""
        predicts = request.method == "predict"
        validator = self._predict if predicts else self._explain
        if validator is None:
            raise InvalidRequest(f"model '{self._name}' has no method '{request.method}'")
        arrays, rows, key = validator.check(request)
        outputs = validator.output_indices(request.outputs)
        if predicts:
            return QueuedRequest(request, arrays, rows, key, outputs, on_done, arrival_ns)
        key = (request.method, key)
        item = QueuedRequest(request, arrays, rows, key, outputs, on_done, arrival_ns)
        item.outputs_of = self._explain_outputs
        return item
