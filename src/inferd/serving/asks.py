"""What models ask of other models: each question waits in the other model's queue like a request
that came from outside. All calls on the loop's thread.
"""

from collections.abc import Callable

from inferd.errors import InferdError, InvalidRequest
from inferd.serving.served_model import ServedModel
from inferd.serving.worker_seat import Seat
from inferd.types.datatype import DATATYPES
from inferd.types.inference import InferenceRequest, InferenceResponse
from inferd.types.tensor import Tensor
from inferd.workers.memory import pack_inline, unpack
from inferd.workers.messages import Answer, Ask, Forget, Packed

Resolve = Callable[[str], ServedModel]


class Asks:
    """Takes what workers ask; `resolve` finds the model."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    def heard(self, seat: Seat, event: Ask | Forget) -> None:
        """A worker asks, or wants no answer any more."""
        if isinstance(event, Forget):
            item = seat.asks.pop(event.ask, None)
            if item is not None:
                item.cancel()
            return
        try:
            self._ask(seat, event)
        except InferdError as error:
            seat.send(Answer(event.ask, {}, error))

    def _ask(self, seat: Seat, ask: Ask) -> None:
        served = self._resolve(ask.model)
        signature = served.explain_signature if ask.method == "explain" else served.signature
        if signature is None:
            raise InvalidRequest(f"model '{ask.model}' has no method '{ask.method}'")
        if ask.signature_only:
            seat.send(Answer(ask.ask, {}, signature=signature))
            return
        inputs = [
            Tensor(name, DATATYPES[packed.datatype], unpack(packed, None, False))
            for name, packed in ask.inputs.items()
        ]
        request = InferenceRequest(ask.model, "", inputs, session=ask.session, method=ask.method)

        def tell(response: InferenceResponse, last: bool) -> None:
            seat.send(Answer(ask.ask, _packed(response), last=last))

        def part(response: InferenceResponse | InferdError) -> None:
            if isinstance(response, InferdError):
                seat.send(Answer(ask.ask, {}, response, last=False))
            else:
                tell(response, False)
            served.took(item, 1)

        def done(result: InferenceResponse | InferdError) -> None:
            seat.asks.pop(ask.ask, None)
            if isinstance(result, InferdError):
                seat.send(Answer(ask.ask, {}, result))
                return
            if ask.streams and result.outputs:  # a model that does not stream: a stream of one
                tell(result, False)
                result.outputs = []
            tell(result, True)

        item = seat.asks[ask.ask] = served.submit(request, done, part if ask.streams else None)


def _packed(response: InferenceResponse) -> dict[str, Packed]:
    return {t.name: pack_inline(t.datatype, t.array) for t in response.outputs}
