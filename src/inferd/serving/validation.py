"""Whether a request fits its model, with the words that Triton's clients and tests look for.

Pure. Its result is what the batcher needs: arrays in the model's order, rows, and a key that is
equal for requests that may share a batch.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence

from inferd.errors import InvalidRequest
from inferd.types.inference import InferenceRequest, Parameters, RequestedOutput
from inferd.types.tensor import Array, LeftOut, Tensor, TensorSpec, left_out


class RequestValidator:
    """Checks requests for one model version, or for one of its methods; inputs at the places
    `ragged` may have different shapes within a batch."""

    def __init__(
        self, name: str, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...],
        max_batch_size: int, ragged: Collection[int] = (),
    ) -> None:  # fmt: skip
        self._name = name
        self._max_batch_size = max_batch_size
        self._inputs = inputs
        self._by_name = {spec.name: spec for spec in inputs}
        self._outputs = {spec.name: index for index, spec in enumerate(outputs)}
        # Dimensions that may differ between requests: only these can keep two apart.
        batched = self._max_batch_size > 0
        self._free_dims = [
            tuple(i for i, dim in enumerate(s.shape) if dim < 0 and not (batched and i == 0))
            if place not in ragged
            else ()
            for place, s in enumerate(inputs)
        ]
        self._all_fixed = not any(self._free_dims) and not any(s.optional for s in inputs)
        only_one = len(inputs) == 1 and self._all_fixed and batched
        self._single = inputs[0] if only_one else None
        self._single_tail = self._single.shape[1:] if self._single else ()

    def check(self, request: InferenceRequest) -> tuple[list[Array], int, Hashable]:
        """Arrays in the model's order, rows, key; raises InvalidRequest naming input and fix."""
        tensors = request.inputs
        single = self._single
        if single is not None and len(tensors) == 1:
            # What most requests are: one input of the one shape that fits.
            tensor = tensors[0]
            shape = tensor.array.shape
            if (
                tensor.datatype is single.datatype
                and shape
                and shape[1:] == self._single_tail
                and 0 < shape[0] <= self._max_batch_size
                and tensor.name == single.name
                and not request.parameters
            ):
                return [tensor.array], shape[0], ()
        in_order = self._in_order(tensors)
        rows = self._rows([tensor for tensor in in_order if tensor is not None])
        for spec, given in zip(self._inputs, in_order, strict=True):
            if given is not None:
                self._check_tensor(spec, given)
        arrays = [
            left_out(spec) if given is None else given.array
            for spec, given in zip(self._inputs, in_order, strict=True)
        ]
        parameters = request.parameters
        if self._all_fixed and not parameters:
            return arrays, rows, ()
        return arrays, rows, (self._free_shape(arrays), _hashable(parameters))

    def output_indices(self, outputs: Sequence[RequestedOutput] | None) -> tuple[int, ...] | None:
        """Indices of the outputs asked for, None for all; raises InvalidRequest."""
        if not outputs:
            return None
        indices = []
        for output in outputs:
            index = self._outputs.get(output.name)
            if index is None:
                known = ", ".join(self._outputs)
                raise InvalidRequest(
                    f"unexpected inference output '{output.name}' for model '{self._name}'; "
                    f"it has: {known}"
                )
            if index in indices:
                raise InvalidRequest(f"output '{output.name}' already exists in request")
            indices.append(index)
        return tuple(indices)

    def _in_order(self, tensors: list[Tensor]) -> list[Tensor | None]:
        by_name: dict[str, Tensor] = {}
        for tensor in tensors:
            if tensor.name in by_name:
                raise InvalidRequest(f"input '{tensor.name}' already exists in request")
            if tensor.name not in self._by_name:
                known = ", ".join(self._by_name)
                raise InvalidRequest(
                    f"unexpected inference input '{tensor.name}' for model '{self._name}'; "
                    f"it has: {known}"
                )
            by_name[tensor.name] = tensor
        missing = [s.name for s in self._inputs if s.name not in by_name and not s.optional]
        if missing:
            raise InvalidRequest(
                f"expected {len(self._inputs)} inputs but got {len(by_name)} inputs for model "
                f"'{self._name}'. Got input(s) {_names(by_name)}, missing {_names(missing)}"
            )
        return [by_name.get(spec.name) for spec in self._inputs]

    def _rows(self, tensors: list[Tensor]) -> int:
        if not self._max_batch_size:
            return 1
        rows = -1 if tensors else 1
        for tensor in tensors:
            shape = tensor.array.shape
            mine = shape[0] if shape else 0
            if rows < 0:
                rows = mine
            elif mine != rows:
                raise InvalidRequest(
                    f"input '{tensor.name}' batch size does not match other inputs for "
                    f"'{self._name}': {mine}, expected {rows}"
                )
        if rows > self._max_batch_size:
            raise InvalidRequest(
                f"inference request batch-size must be <= {self._max_batch_size} for "
                f"'{self._name}', got {rows}"
            )
        if rows < 1:
            raise InvalidRequest(f"inference request batch-size must be >= 1 for '{self._name}'")
        return rows

    def _check_tensor(self, spec: TensorSpec, tensor: Tensor) -> None:
        if tensor.datatype is not spec.datatype:
            raise InvalidRequest(
                f"inference input '{spec.name}' data-type is '{tensor.datatype.name}', but model "
                f"'{self._name}' expects '{spec.datatype.name}'"
            )
        shape = tensor.array.shape
        expected = spec.shape
        fits = len(shape) == len(expected)
        if spec.any_shape:
            fits = not self._max_batch_size or len(shape) > 0
        elif fits:
            for mine, theirs in zip(shape, expected, strict=True):
                if mine != theirs and theirs >= 0:
                    fits = False
                    break
        if not fits:
            raise InvalidRequest(
                f"unexpected shape for input '{spec.name}' for model '{self._name}'. "
                f"Expected {_shape(expected)}, got {_shape(shape)}"
            )

    def _free_shape(self, arrays: list[Array]) -> Hashable:
        return tuple(
            None if isinstance(array, LeftOut)
            else array.shape[1:] if spec.any_shape
            else tuple([array.shape[i] for i in free])
            for spec, free, array in zip(self._inputs, self._free_dims, arrays, strict=True)
        )  # fmt: skip


def _hashable(parameters: Parameters | None) -> Hashable:
    """1, 1.0 and true are equal to Python and not to a model."""
    return frozenset((k, type(v), v) for k, v in parameters.items()) if parameters else None


def _shape(shape: Sequence[int]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _names(names: Mapping[str, object] | Sequence[str]) -> str:
    return "[" + ", ".join(f"'{name}'" for name in names) + "]"
