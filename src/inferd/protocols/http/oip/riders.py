"""The plainest requests and answers of the Open Inference Protocol, for the express lane."""

import msgspec

from inferd.protocols.depth import check_shallow
from inferd.protocols.express.rows import merge_numbers, row_texts
from inferd.protocols.http.oip.response_codec import single_row_head
from inferd.protocols.oip.parameters import is_sequence_id
from inferd.schemas.oip import (
    FloatRequest,
    FloatStepRequest,
    InferRequest,
    IntRequest,
    IntStepRequest,
)
from inferd.serving.served_model import ServedModel
from inferd.types.inference import SequenceStep
from inferd.types.tensor import Array

_DECODERS: dict[str, msgspec.json.Decoder[InferRequest]] = {
    "float": msgspec.json.Decoder(FloatRequest),
    "int": msgspec.json.Decoder(IntRequest),
}
"""By kind of datatype; they refuse values of another kind, which have their say elsewhere."""
_STEP_DECODERS: dict[
    str, msgspec.json.Decoder[FloatStepRequest] | msgspec.json.Decoder[IntStepRequest]
] = {
    "float": msgspec.json.Decoder(FloatStepRequest),
    "int": msgspec.json.Decoder(IntStepRequest),
}


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
        if wire.parameters:
            raise ValueError
        return self._only_data(wire)

    def _only_data(self, wire: InferRequest) -> object:
        (only,) = wire.inputs
        if (
            only.name != self._name
            or only.datatype != self._datatype
            or only.shape != self._shape
            or wire.id
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


class OipStepRiders(OipRiders):
    """A StepForm."""

    def __init__(self, served: ServedModel) -> None:
        super().__init__(served)
        self._decode_step = _STEP_DECODERS[self._spec.datatype.kind].decode

    def step(self, body: bytes) -> tuple[object, SequenceStep]:
        """See StepForm."""
        check_shallow(body)
        wire = self._decode_step(body)
        said = wire.parameters
        if said is None or not said.sequence_id or not is_sequence_id(said.sequence_id):
            raise ValueError
        step = SequenceStep(said.sequence_id, said.sequence_start, said.sequence_end)
        return self._only_data(wire), step


def oip_riders(served: ServedModel) -> OipRiders:
    """The form for a model."""
    return OipRiders(served) if served.sequences is None else OipStepRiders(served)
