"""Which kind an annotation, or another model's argument, is of."""

import dataclasses
import types
import typing
from typing import Annotated, Any, get_args, get_origin

import msgspec
import numpy as np

from inferd.sdk.annotations import Shape
from inferd.sdk.array_kind import ArrayKind
from inferd.sdk.dtypes import datatype_of, is_array, numpy_scalar
from inferd.sdk.frame import FrameKind, is_frame_class
from inferd.sdk.image import ImageKind, is_image_class
from inferd.sdk.json_kinds import AnyJsonKind, JsonKind, PydanticKind
from inferd.sdk.kinds import PYTHON_NUMBERS, BytesKind, Kind, NumberKind, TextKind
from inferd.types.datatype import BYTES, DATATYPES
from inferd.types.signature import Argument

_PYTHON_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float}


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type and what `Annotated` says of it; names for types are looked through."""
    said: tuple[Any, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            said += annotation.__metadata__
            annotation = annotation.__origin__
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation, said


def description_of(said: tuple[Any, ...]) -> str:
    """The description among what `Annotated` says, empty where there is none."""
    for entry in said:
        if isinstance(entry, msgspec.Meta) and entry.description:
            return entry.description
    return ""


def optional_of(annotation: Any) -> Any:
    """T of `T | None`, None for all else."""
    base, said = unwrap(annotation)
    if get_origin(base) not in (typing.Union, types.UnionType):
        return None
    others = [arg for arg in get_args(base) if arg is not type(None)]
    if len(others) != 1 or len(others) == len(get_args(base)):
        return None
    return Annotated[(others[0], *said)] if said else others[0]


def tensor_like(annotation: Any) -> bool:
    """Whether it is an array, a number, a text, bytes or a picture: what has a tensor of its
    own, where all else is JSON."""
    base, _ = unwrap(annotation)
    if is_array(base) or is_image_class(base):
        return True
    return isinstance(base, type) and (
        base in PYTHON_NUMBERS or base in (str, bytes) or issubclass(base, np.generic)
    )


def kind_of(annotation: Any, *, batched: bool = False) -> Kind:
    """The kind of a type. Of an array that holds a batch, `batched`, the first dimension is taken
    off its Shape. Raises TypeError that says what is wrong with the annotation."""
    base, said = unwrap(annotation)
    shapes = [entry for entry in said if isinstance(entry, Shape)]
    if is_array(base):
        return _array_kind(base, said, shapes[0] if shapes else None, batched)
    if shapes:
        raise TypeError(f"a Shape is for arrays, not for {_words(base)}")
    if isinstance(base, types.ModuleType):
        raise TypeError(f"{base.__name__} is a module, not a type")
    if base is Any or base is object:
        return AnyJsonKind({})
    if tensor_like(base) and not is_image_class(base):
        return _single_kind(annotation, base, said)
    if is_image_class(base):
        return ImageKind()
    if is_frame_class(base):
        return FrameKind()
    return _json_kind(annotation, base)


def kind_of_argument(argument: Argument) -> Kind:
    """The kind of an argument of which only its signature is known."""
    datatype = DATATYPES[argument.datatype]
    if argument.form == "json":
        return AnyJsonKind(argument.schema)
    if argument.form == "image":
        return ImageKind()
    if argument.form == "bytes":
        return BytesKind(argument.schema)
    if argument.form == "value" and datatype is BYTES:
        return TextKind(argument.schema)
    if argument.form == "value":
        return NumberKind(_PYTHON_TYPES[datatype.kind], datatype, argument.schema)
    return ArrayKind(datatype, argument.shape, text=datatype is BYTES)


def fields_of(annotation: Any) -> tuple[type, dict[str, Any]] | None:
    """The class and the annotated fields of a record type, None for any other type."""
    base, _ = unwrap(annotation)
    if not isinstance(base, type) or base is type(None):
        return None
    names: tuple[str, ...]
    if dataclasses.is_dataclass(base):
        names = tuple(f.name for f in dataclasses.fields(base))
    elif issubclass(base, msgspec.Struct):
        names = base.__struct_fields__
    elif typing.is_typeddict(base):
        names = tuple(base.__annotations__)
    elif issubclass(base, tuple) and hasattr(base, "_fields"):
        names = base._fields
    elif hasattr(base, "__pydantic_validator__"):
        names = tuple(getattr(base, "model_fields", ()))
    else:
        return None
    hints = typing.get_type_hints(base, include_extras=True)
    return base, {name: hints.get(name, Any) for name in names}


def _array_kind(base: Any, said: tuple[Any, ...], shape: Shape | None, batched: bool) -> Kind:
    _refuse_bounds(said, "an array")
    scalar = numpy_scalar(base)
    dims = shape.dims if shape else None
    if batched and dims is not None:
        if not dims or dims[0] != -1:
            raise TypeError(f"{shape!r}: the first dimension is the batch; make it None")
        dims = dims[1:]
    return ArrayKind(datatype_of(scalar), dims, text=scalar is np.str_)


def _single_kind(annotation: Any, base: type, said: tuple[Any, ...]) -> Kind:
    if any(type(entry).__module__.split(".")[0] in _FOREIGN for entry in said):
        raise TypeError(f"bounds of {_words(base)} are said with inferd.Field(...)")
    if issubclass(base, np.generic):
        _refuse_bounds(said, "a numpy scalar")
        datatype = datatype_of(base)
        if datatype is BYTES:
            raise TypeError(f"use str or bytes in place of {_words(base)}")
        return NumberKind(base, datatype, {"type": _NUMPY_JSON[datatype.kind]})
    schema = msgspec.json.schema(annotation)
    constrained = annotation if any(map(_bounds, said)) else None
    if base is str:
        return TextKind(schema, constrained)
    if base is bytes:
        return BytesKind(schema, constrained)
    return NumberKind(base, PYTHON_NUMBERS[base], schema, constrained)


def _json_kind(annotation: Any, base: Any) -> Kind:
    try:
        return PydanticKind(annotation) if _has_pydantic(base) else JsonKind(annotation)
    except Exception as error:  # TypeError of msgspec, and several of pydantic
        reason = str(error).splitlines()[-1] if str(error) else type(error).__name__
        raise TypeError(f"{_words(base)} cannot be read from JSON: {reason}") from None


def _has_pydantic(annotation: Any) -> bool:
    base, said = unwrap(annotation)
    if any(type(entry).__module__.split(".")[0] in _FOREIGN for entry in said):
        return True
    return hasattr(base, "__pydantic_validator__") or any(map(_has_pydantic, get_args(base)))


def _refuse_bounds(said: tuple[Any, ...], what: str) -> None:
    if any(map(_bounds, said)):
        raise TypeError(f"{what} has no bounds to check; check its values in predict")


def _bounds(entry: Any) -> bool:
    return isinstance(entry, msgspec.Meta) and any(
        getattr(entry, name) is not None for name in _BOUNDS
    )


def _words(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)


_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")
_FOREIGN = ("pydantic", "annotated_types")
_NUMPY_JSON = {"bool": "boolean", "int": "integer", "float": "number"}
