"""Model classes in the server's own process, for authors who ask for it: `isolation="thread"`.

It saves the way to a worker and back, and gives up what a worker is for: a crash takes the server
with it, a run that hangs cannot be ended, and code that holds Python's lock holds up all other
requests. Only plain synchronous classes run here; what else a class may have is refused with the
way out.
"""

import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from inferd.backends.base import ModelDescription, OpenOptions
from inferd.backends.completion import complete
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError
from inferd.sdk.call import Call
from inferd.sdk.card import ModelCard, TensorCard
from inferd.sdk.finder import find_model_class
from inferd.sdk.model import Model as ModelClass
from inferd.sdk.runtime import ModelRuntime
from inferd.types.datatype import DATATYPES
from inferd.types.signature import Signature
from inferd.types.tensor import Array, LeftOut, TensorSpec

TRITON_CLASS: Final = "TritonPythonModel"
_WAY_OUT: Final = "choose isolation process"


class PythonBackend:
    """Opens `.py` files, and one class of a file as `file.py:Class`."""

    name = "python"
    platform = "python"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> "PythonModel":
        """Run the file and read its class; see Backend."""
        file, _, wanted = path.name.partition(":")
        if wanted == TRITON_CLASS:
            raise ConfigError(f"a {TRITON_CLASS} runs in a process; {_WAY_OUT}", field="isolation")
        model_class = _found(path.with_name(file), wanted)
        try:
            card = ModelRuntime(model_class).card
        except TypeError as error:  # what is wrong with the class
            raise BackendError(f"{path}: {error}") from error
        _check(card, config)
        return PythonModel(model_class, card, config)


class PythonModel:
    """One class."""

    def __init__(self, model_class: type[ModelClass], card: ModelCard, config: ModelConfig) -> None:
        self._class = model_class
        self._devices = [one.device or None for one in config.instances]
        self._made = 0
        inputs = [_spec(tensor, card.batched) for tensor in card.inputs]
        outputs = [_spec(tensor, card.batched) for tensor in card.outputs]
        batch = card.options.max_batch_size
        batch = batch if config.max_batch_size is None else config.max_batch_size
        told = complete(config, PythonBackend.platform, PythonBackend.name, inputs, outputs, batch)
        self.description: ModelDescription = replace(
            told, signature=_signature(card.signature, told), has_effects=True,
            max_queue_delay_microseconds=card.options.max_queue_delay_microseconds,
        )  # fmt: skip
        given = [spec.name for spec in told.inputs]
        self._order = [given.index(spec.name) for spec in inputs]
        made = [spec.name for spec in outputs]
        self._offered = [made.index(spec.name) for spec in told.outputs]

    def create_instance(self) -> "PythonInstance":
        """Make an instance of the class and have it load; raises BackendError."""
        device = self._devices[self._made % len(self._devices)]
        self._made += 1
        runtime = ModelRuntime(self._class, device=device)
        runtime.load()
        batched = self.description.max_batch_size > 0
        return PythonInstance(runtime, self._order, self._offered, batched)

    def create_lanes(self) -> list["PythonInstance"]:
        """None: an instance is as many as its author says."""
        return []

    def close(self) -> None:
        """What there is to let go of, its instances have."""


class PythonInstance:
    """One instance of a class; `order` has the place of each argument among the inputs, `offered`
    that of each output among the results."""

    def __init__(
        self, runtime: ModelRuntime, order: list[int], offered: list[int], batched: bool
    ) -> None:
        self._runtime = runtime
        self._order = order
        self._offered = offered
        self._batched = batched

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch, as one request; see ModelInstance. Arguments are read-only."""
        arrays = [None if isinstance(a, LeftOut) else _lent(a) for a in inputs]
        rows = next((len(a) for a in arrays if a is not None), 1) if self._batched else 1
        joined = self._runtime.run_joined(
            Call("predict", [arrays[index] for index in self._order], [rows])
        )
        for error in joined.failed.values():
            raise error
        # A model may give what it was lent, or give the same array again and again.
        return [joined.arrays[index].copy() for index in self._offered]

    def close(self) -> None:
        """Unload."""
        self._runtime.unload()


_reading: Final = threading.Lock()
_beside: Final[dict[Path, list[str]]] = {}
"""Modules that the files of a folder have imported from beside them."""


def _found(file: Path, name: str) -> type[ModelClass]:
    """The class, of a file that is run anew with what it imports from beside it."""
    folder = file.resolve().parent
    with _reading:
        for module in _beside.pop(folder, ()):
            sys.modules.pop(module, None)
        before = {*sys.modules}
        try:
            return find_model_class(file, name)
        finally:
            new = [module for module in sys.modules if module not in before]
            _beside[folder] = [module for module in new if _is_below(module, folder)]


def _is_below(module: str, folder: Path) -> bool:
    file = getattr(sys.modules[module], "__file__", None)
    own = module.startswith("inferd_model_")  # a class that serves is still asked for its module
    return file is not None and not own and folder in Path(file).resolve().parents


def _check(card: ModelCard, config: ModelConfig) -> None:
    """Raises ConfigError for what needs a process, and for what the class says otherwise."""
    needs = [
        what
        for what, is_there in (
            ("async methods", card.is_async),
            ("a streamed answer", card.streams),
            ("sessions", card.signature.sessions),
            ("explain", card.explain is not None),
            ("inferd.depends", bool(card.depends)),
            ("asgi", card.has_asgi),
            ("an environment of its own", bool(config.python or config.requirements)),
            ("a memory limit", bool(config.memory_limit_mb)),
        )
        if is_there
    ]
    if needs:
        raise ConfigError(
            f"'{card.name}' has {', '.join(needs)}, which a thread of the server does not; "
            f"{_WAY_OUT}",
            field="isolation",
        )
    if not config.instance_group and card.options.instances != 1:
        raise ConfigError(
            f"'{card.name}' computes its option 'instances'; write its value out, or {_WAY_OUT}",
            field="isolation",
        )
    said, most = config.max_batch_size, card.options.max_batch_size
    if said is not None and said != most and not 0 < said < most:
        raise ConfigError(f"is {said}, but the class says {most}", field="max_batch_size")


def _signature(signature: Signature, told: ModelDescription) -> Signature:
    """That of the class, in the order of a configuration and without what it does not offer."""
    inputs = {argument.name: argument for argument in signature.inputs}
    outputs = {argument.name: argument for argument in signature.outputs}
    return msgspec.structs.replace(
        signature,
        inputs=tuple(inputs[spec.name] for spec in told.inputs),
        outputs=tuple(outputs[spec.name] for spec in told.outputs),
        max_batch_size=told.max_batch_size,
    )


def _spec(tensor: TensorCard, batched: bool) -> TensorSpec:
    shape = tensor.shape
    if shape is None:
        shape = (-1, -1) if batched else (-1,)
    return TensorSpec(
        tensor.name, DATATYPES[tensor.datatype], shape, tensor.optional,
        any_shape=tensor.shape is None,
    )  # fmt: skip


def _lent(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view
