"""The plainest requests and answers of the Open Inference Protocol, for the express lane."""

import msgspec

from inferd.protocols.depth import check_shallow
from inferd.protocols.express import merge_numbers, row_texts
from inferd.protocols.http.oip.response_codec import single_row_head
from inferd.schemas.oip import FloatRequest, InferRequest, IntRequest
from inferd.serving.served_model import ServedModel
from inferd.types.tensor import Array

_DECODERS: dict[str, msgspec.json.Decoder[InferRequest]] = {
    "float": msgspec.json.Decoder(FloatRequest),
    "int": msgspec.json.Decoder(IntRequest),
}
"""By kind of datatype; they refuse values of another kind, which have their say elsewhere."""


class OipRiders:
    """A RiderForm."""

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._spec = spec = served.description.inputs[0]
        self._decode = _DECODERS[spec.datatype.kind].decode
        self._name = spec.name
        self._datatype = spec.datatype.name
        self._shape = [1, *spec.shape[1:]]

    def row(self, body: bytes) -> object:
        """See RiderForm; data may be nested or flat."""
        check_shallow(body)
        wire = self._decode(body)
        (only,) = wire.inputs
        if (
            only.name != self._name
            or only.datatype != self._datatype
            or only.shape != self._shape
            or wire.id
            or wire.parameters
            or wire.outputs
            or only.parameters
        ):
            raise ValueError
        return only.data

    def merge(self, rows: list[object]) -> Array:
        """See RiderForm."""
        return merge_numbers(rows, self._spec, flat=True)

    def answers(self, outputs: list[Array]) -> list[bytes]:
        """See RiderForm."""
        served = self._served
        answers: list[bytes] = []
        for index, (spec, output) in enumerate(zip(served.outputs, outputs, strict=True)):
            shape = output.shape[1:]
            head = single_row_head(
                served.name, str(served.version), spec.name, spec.datatype, shape, index > 0
            )
            rows = row_texts(output)
            if index:
                answers = [b"%b%b%b]}" % (a, head, r) for a, r in zip(answers, rows, strict=True)]
            else:
                answers = [b"%b%b]}" % (head, row) for row in rows]
        return [b"%b]}" % answer for answer in answers]
