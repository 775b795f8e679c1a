"""What a function returns, as named outputs, and back.

A record (dataclass, struct, TypedDict, NamedTuple, pydantic model) whose fields all have tensors of
their own is one output a field, `tuple[A, B]` is output_0 and output_1, and anything else is one
output, named output.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin

import numpy as np

from inferd.errors import BackendError, InferdError
from inferd.sdk.choosing import description_of, fields_of, tensor_like, unwrap
from inferd.sdk.mismatch import Mismatch, type_name
from inferd.sdk.slots import Slot, check_list, element_of, layout_of, make_kind
from inferd.types.signature import Argument
from inferd.types.tensor import Array

BARE_NAME = "output"

Columns = Callable[[Any], list[Any]]
"""The values of each output in one result; raises Mismatch."""


class Results:
    """The outputs of one function. `of_items` is a batch that is a list of records or tuples,
    rather than a record or a tuple of batches."""

    def __init__(
        self, slots: tuple[Slot, ...], columns: Columns, build: Callable[[list[Any]], Any],
        *, bare: bool, of_items: bool = False,
    ) -> None:  # fmt: skip
        self.slots = slots
        self.bare = bare
        self._columns = columns
        self._build = build
        self._of_items = of_items

    def encode(self, value: Any, rows: int) -> tuple[list[Array], dict[int, InferdError]]:
        """The outputs of a result, and what is wrong with single rows of it.

        Rows that are wrong hold anything. Raises BackendError where the whole is wrong.
        """
        try:
            return [s.encode(c, rows) for s, c in self._by_slot(value, rows)], {}
        except Mismatch:
            if not self._listed(value, rows):
                return self._encode_or_raise(value, rows), {}
        return self._encode_rows(value)

    def decode_one(self, arrays: Mapping[str, Array]) -> Any:
        """The natural value of outputs that hold one item; raises Mismatch."""
        return self._build([slot.decode_one(arrays[slot.name]) for slot in self.slots])

    def decode_rows(self, arrays: Mapping[str, Array]) -> list[Any]:
        """The natural values of outputs that hold a batch; raises Mismatch."""
        columns = [slot.kind.decode_many(arrays[slot.name]) for slot in self.slots]
        return [self._build(list(row)) for row in zip(*columns, strict=True)]

    def _by_slot(self, value: Any, rows: int) -> list[tuple[Slot, Any]]:
        if self._of_items:
            items = [self._columns(item) for item in check_list(value, rows, "results")]
            columns: Sequence[Any] = [[item[i] for item in items] for i in range(len(self.slots))]
        else:
            columns = self._columns(value)
        return list(zip(self.slots, columns, strict=True))

    def _listed(self, value: Any, rows: int) -> bool:
        """Whether rows can be looked at one by one."""
        single = self._of_items or (self.bare and self.slots[0].layout == "list")
        return single and isinstance(value, (list, tuple)) and len(value) == rows

    def _encode_or_raise(self, value: Any, rows: int) -> list[Array]:
        try:
            pairs = self._by_slot(value, rows)
        except Mismatch as error:
            raise BackendError(f"the model returned a wrong result: {error.text}") from None
        arrays = []
        for slot, column in pairs:
            try:
                arrays.append(slot.encode(column, rows))
            except Mismatch as error:
                raise BackendError(error.of("result", slot.name)) from None
        return arrays

    def _encode_rows(self, items: Sequence[Any]) -> tuple[list[Array], dict[int, InferdError]]:
        bad: dict[int, InferdError] = {}
        good: dict[int, list[Array]] = {}
        for index, item in enumerate(items):
            if isinstance(item, InferdError):
                bad[index] = item
                continue
            try:
                good[index] = self._encode_or_raise([item], 1)
            except BackendError as error:
                bad[index] = error
        arrays = []
        for number, slot in enumerate(self.slots):
            parts = [part[number] for part in good.values()]
            if len({part.shape for part in parts}) > 1:
                self._encode_or_raise([items[index] for index in good], len(good))
            shape = parts[0].shape[1:] if parts else ()
            array = np.zeros((len(items), *shape), slot.kind.datatype.dtype)
            if parts:
                array[list(good)] = np.concatenate(parts)
            arrays.append(array)
        return arrays, bad


def read_results(annotation: Any, batched: bool) -> Results:
    """The outputs of a return annotation; raises TypeError."""
    element = element_of(annotation) if batched else None
    of_items = element is not None
    parts = _parts(annotation if element is None else element, batched and not of_items)
    if parts is None:
        slot = _slot(BARE_NAME, annotation, batched)
        return Results((slot,), lambda value: [value], lambda values: values[0], bare=True)
    annotations, columns, build = parts
    wrapped = {n: list[a] if of_items else a for n, a in annotations.items()}  # type: ignore[valid-type]
    slots = tuple(_slot(name, a, batched) for name, a in wrapped.items())
    return Results(slots, columns, build, bare=False, of_items=of_items)


def remote_results(slots: tuple[Slot, ...], bare: bool) -> Results:
    """Those of a model of which only its signature is known: one value, or a dict of several."""
    names = [slot.name for slot in slots]

    def build(values: list[Any]) -> Any:
        return values[0] if bare else dict(zip(names, values, strict=True))

    return Results(slots, lambda value: [value], build, bare=bare)


def _slot(name: str, annotation: Any, batched: bool) -> Slot:
    try:
        layout, inner = layout_of(annotation, batched)
        kind = make_kind(inner, layout)
    except TypeError as error:
        raise TypeError(f"its result '{name}': {error}") from None
    _, said = unwrap(annotation)
    argument = Argument(
        name=name, datatype=kind.datatype.name, form=kind.form, shape=kind.shape,
        schema=kind.schema, description=description_of(said),
    )  # fmt: skip
    return Slot(argument, kind, layout)


def _parts(
    annotation: Any, of_batches: bool
) -> tuple[dict[str, Any], Columns, Callable[[list[Any]], Any]] | None:
    """Annotations of several outputs, how a result falls into them and is made of them."""
    base, _ = unwrap(annotation)
    arguments = get_args(base)
    if get_origin(base) is tuple and arguments and Ellipsis not in arguments:
        named = {f"output_{index}": arg for index, arg in enumerate(arguments)}
        return named, _tuple_columns(len(arguments)), tuple
    record = fields_of(base)
    if record is None or not record[1]:
        return None
    container, fields = record
    if not all(_has_tensors(field, of_batches) for field in fields.values()):
        return None
    names = list(fields)
    return (
        fields,
        _record_columns(container, names),
        lambda values: container(**dict(zip(names, values, strict=True))),
    )


def _has_tensors(annotation: Any, of_batches: bool) -> bool:
    element = element_of(annotation) if of_batches else None
    return tensor_like(annotation if element is None else element)


def _tuple_columns(count: int) -> Columns:
    def columns(value: Any) -> list[Any]:
        if not isinstance(value, (tuple, list)) or len(value) != count:
            came = f"{len(value)}" if isinstance(value, (tuple, list)) else type_name(value)
            raise Mismatch(f"expected a tuple of {count}, got {came}")
        return list(value)

    return columns


def _record_columns(container: type, names: list[str]) -> Columns:
    as_dict = issubclass(container, dict)  # a TypedDict has no instances of its own

    expected: Any = dict if as_dict else container

    def columns(value: Any) -> list[Any]:
        if not isinstance(value, expected):
            raise Mismatch(f"expected {container.__name__}, got {type_name(value)}")
        if not as_dict:
            return [getattr(value, name) for name in names]
        missing = [name for name in names if name not in value]
        if missing:
            raise Mismatch(f"expected {container.__name__}, '{missing[0]}' is missing")
        return [value[name] for name in names]

    return columns
