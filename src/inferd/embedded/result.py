"""What a model answers: its outputs by name."""

from inferd.types.inference import InferenceResponse, Parameters
from inferd.types.tensor import Array


class Result(dict[str, Array]):
    """The outputs that were asked for, by name, in the order asked for.

    They are the arrays that the model made, or the rows of a batch that are this request's: nothing
    is copied, and no other request has the same rows. BYTES are object arrays of `bytes`, BF16 are
    uint16 bit patterns: `datatypes` tells them from UINT16.
    """

    __slots__ = ("datatypes", "id", "model_name", "model_version", "parameters")

    def __init__(self, response: InferenceResponse) -> None:
        super().__init__({tensor.name: tensor.array for tensor in response.outputs})
        self.datatypes = {tensor.name: tensor.datatype.name for tensor in response.outputs}
        self.model_name = response.model_name
        self.model_version = response.model_version
        self.id = response.id
        self.parameters: Parameters = response.parameters or {}
