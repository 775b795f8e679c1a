"""MLServer: a custom runtime; its adaptive batching is set by the tool's environment."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from served import ServedModel


class OnnxRuntime(MLModel):
    """Answers V2 requests; batches arrive merged along the first dimension."""

    async def load(self) -> bool:
        """Loads the model."""
        self._model = ServedModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answers one (merged) request."""
        batch = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("output", self._model.run(batch))
        return InferenceResponse(model_name=self.name, outputs=[output])
