"""The base class of models written in Python."""

import logging
from typing import Any, ClassVar, Self

from inferd.sdk.ask import Ask
from inferd.sdk.options import ModelOptions, read_options


class Model:
    """A model: subclass it, annotate `predict`, and serve it.

        class Digits(inferd.Model, max_batch_size=64, instances=2):
            def load(self) -> None:
                self.weights = ...

            def predict(
                self, image: Annotated[npt.NDArray[np.float32], inferd.Shape(None, 64)]
            ) -> npt.NDArray[np.int64]:
                ...

    Options are keywords of the class (`ModelOptions`). An author may also write `unload`,
    `preprocess` (its parameters are then the model's arguments, its result goes to `predict`, a
    tuple is spread), `postprocess` (gets what `predict` returned), `explain` (with arguments of
    its own) and `asgi` (an ASGI application, or a method without parameters that makes one). Of an
    async model it runs on the loop of its calls, of any other on a thread beside them.

    With `max_batch_size`, arguments and results are batches: lists, or arrays whose first dimension
    is the batch; a list of results may hold an inferd error in place of an item, which then fails
    only its own request. An array is only lent: copy what is kept beyond the call. An array
    annotated without a dtype is float32, one without a `Shape` may have any.
    """

    options: ClassVar[ModelOptions] = ModelOptions(name="Model")

    name: str
    """The name it is served under."""
    device: str
    """Where it should compute: `cpu`, `cuda` or `cuda:N`."""
    log: logging.Logger
    """For what the server's log should show."""

    _inferd_ask: Ask | None
    """How `depends` reaches other models; None without a server."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__()
        cls.options = read_options(cls.__name__, keywords, cls.options)

    def __new__(cls, *_args: Any, **_keywords: Any) -> Self:
        model = super().__new__(cls)
        place(model, cls.options.name, cls.options.device)
        return model

    def load(self) -> Any:
        """Make ready, for example read weights; called once. Of an async model it may be async."""

    def unload(self) -> Any:
        """Let go of what `load` took; called once, when no call is running."""


def place(model: Model, name: str, device: str, ask: Ask | None = None) -> None:
    """Tell a model what it is called, where it runs, and how it reaches others; `auto` that nobody
    decided is the CPU."""
    model.name = name
    model.device = "cpu" if device == "auto" else device
    model._inferd_ask = ask
    model.log = logging.getLogger(f"inferd.model.{name}")
