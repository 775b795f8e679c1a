"""A function of a model class as its callers see it: Signature, and codecs both ways.

What it takes is read from the first function of its chain (`preprocess`, else `predict`), what it
gives from the last (`postprocess`, else `predict`).
"""

import collections.abc as abc
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from inferd.sdk.choosing import description_of, optional_of, tensor_like, unwrap
from inferd.sdk.mismatch import Mismatch
from inferd.sdk.model import Model
from inferd.sdk.results import Results, read_results, remote_results
from inferd.sdk.session import Session
from inferd.sdk.slots import Slot, element_of, layout_of, make_kind, remote_slots
from inferd.types.signature import Argument, Signature
from inferd.types.tensor import Array

_STREAMS = (
    abc.Iterator, abc.Iterable, abc.Generator,
    abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Interface:
    """One method, `predict` or `explain`. `defaults` are tensors of one item, for arguments that
    may be left out and have one; `session` names the parameter that gets the Session."""

    signature: Signature
    slots: tuple[Slot, ...]
    results: Results
    defaults: dict[str, Array]
    session: str = ""
    is_async: bool = False

    @property
    def batched(self) -> bool:
        return self.signature.max_batch_size > 0


def read_interface(model_class: type[Model], method: str = "predict") -> Interface:
    """What `predict` (with what is before and after it) or `explain` takes and gives.

    Raises TypeError that names class, method and parameter, and says what to write.
    """
    chain = [method]
    if method == "predict":
        chain = [n for n in ("preprocess", "predict", "postprocess") if hasattr(model_class, n)]
    functions = [_function(model_class, name) for name in chain]
    if "predict" not in chain and method == "predict":
        raise TypeError(f"{model_class.__name__} has no method predict; it needs one")
    first, last = f"{model_class.__name__}.{chain[0]}", f"{model_class.__name__}.{chain[-1]}"
    max_batch_size = model_class.options.max_batch_size
    streams = _streams(model_class, chain, functions)
    if streams and max_batch_size:
        raise TypeError(f"{first}: a stream is of one item; leave out max_batch_size")
    slots, defaults, session = _arguments(first, functions[0], max_batch_size > 0)
    results = _results(last, functions[-1], max_batch_size > 0)
    signature = Signature(
        inputs=tuple(slot.argument for slot in slots),
        outputs=tuple(slot.argument for slot in results.slots),
        bare=results.bare,
        streams=streams,
        sessions=bool(session),
        description=_description(model_class, functions[chain.index(method)], method),
        max_batch_size=max_batch_size,
    )
    is_async = any(
        inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in functions
    )
    return Interface(signature, slots, results, defaults, session, is_async)


def remote_interface(signature: Signature) -> Interface:
    """That of another model, of which only its signature is known."""
    inputs, outputs = remote_slots(signature)
    return Interface(signature, inputs, remote_results(outputs, signature.bare), {})


def _function(model_class: type[Model], name: str) -> Callable[..., Any]:
    function = inspect.getattr_static(model_class, name, None)
    if function is None:
        raise TypeError(f"{model_class.__name__} has no method {name}")
    if not inspect.isfunction(function):
        raise TypeError(f"{model_class.__name__}.{name} must be a method that takes self")
    return function


def _description(model_class: type[Model], function: Any, method: str) -> str:
    """What the function says of itself, or the class says of its predict."""
    own = vars(model_class).get("__doc__") if method == "predict" else ""
    return inspect.getdoc(function) or inspect.cleandoc(own or "")


def _streams(model_class: type[Model], chain: list[str], functions: list[Any]) -> bool:
    streaming = {}
    for name, function in zip(chain, functions, strict=True):
        generates = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        base, _ = unwrap(_hints(f"{model_class.__name__}.{name}", function).get("return"))
        streaming[name] = generates or (get_origin(base) or base) in _STREAMS
    for name in ("preprocess", "postprocess", "explain"):
        if streaming.get(name):
            raise TypeError(f"{model_class.__name__}.{name} cannot be a stream; only predict can")
    return streaming.get("predict", False)


def _hints(where: str, function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # annotations are code of the author's
        raise TypeError(f"{where}: its annotations cannot be read: {error}") from None


def _arguments(
    where: str, function: Any, batched: bool
) -> tuple[tuple[Slot, ...], dict[str, Array], str]:
    hints = _hints(where, function)
    slots, defaults, session = [], {}, ""
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        name = parameter.name
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{where}: '{parameter}': every argument needs a name of its own")
        if name not in hints:
            raise TypeError(
                f"{where}: parameter '{name}' has no annotation; write its type, for example "
                f"{name}: str"
            )
        if Session in (hints[name], element_of(hints[name])):
            if (hints[name] is Session) == batched or session:
                raise TypeError(
                    f"{where}: '{name}': there is one Session; with max_batch_size it is "
                    "list[inferd.Session]"
                )
            session = name
            continue
        try:
            slot, default = _slot(name, hints[name], parameter.default, batched)
        except (TypeError, Mismatch) as error:
            raise TypeError(f"{where}: parameter '{name}': {error}") from None
        slots.append(slot)
        if default is not None:
            defaults[name] = default
    return tuple(slots), defaults, session


def _slot(name: str, annotation: Any, default: Any, batched: bool) -> tuple[Slot, Array | None]:
    """The place of a parameter, and the tensor of its default for one item."""
    inner = optional_of(annotation)
    if batched and inner is not None:
        raise TypeError("a batch is never None; write list[T | None] with the default [None]")
    # Without its tensor an array or a picture is None; of numbers and texts None is JSON.
    absent = inner is not None and tensor_like(inner) and not _is_json_like(inner)
    if absent and default is not None:
        raise TypeError("what may be None needs the default None")
    layout, held = layout_of(inner if absent else annotation, batched)
    kind = make_kind(held, layout)
    text, tensor = None, None
    if absent:
        text = "null"
    elif default is not inspect.Parameter.empty:
        item = _one_item(default) if batched else default
        text = kind.to_json(item).decode()
        slot = Slot(Argument(name=name, datatype="", form=kind.form), kind, layout)
        tensor = slot.encode_one(item)
        slot.decode(tensor)  # a default keeps to the bounds, too
    _, said = unwrap(annotation)
    argument = Argument(
        name=name, datatype=kind.datatype.name, form=kind.form, shape=kind.shape,
        schema=kind.schema, default=text,
        description=description_of(said) or description_of(unwrap(held)[1]),
    )  # fmt: skip
    return Slot(argument, kind, layout), tensor


def _is_json_like(annotation: Any) -> bool:
    """Whether `T | None` of it is as good as JSON: numbers and texts."""
    base, _ = unwrap(annotation)
    return base in (bool, int, float, str)


def _one_item(default: Any) -> Any:
    """The item that stands for one left out, of the default of a batched parameter."""
    if not hasattr(default, "__len__") or isinstance(default, (str, bytes)) or len(default) != 1:
        raise TypeError("its default is a batch of one item, for example [5]")
    return default[0]


def _results(where: str, function: Any, batched: bool) -> Results:
    hints = _hints(where, function)
    if "return" not in hints:
        raise TypeError(f"{where}: its result has no annotation; write -> and its type")
    annotation, _ = unwrap(hints["return"])
    if (get_origin(annotation) or annotation) in _STREAMS:
        if not get_args(annotation):
            raise TypeError(f"{where}: say what the stream is of, for example -> Iterator[str]")
        annotation = get_args(annotation)[0]
    else:
        annotation = hints["return"]
    try:
        return read_results(annotation, batched)
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from None
