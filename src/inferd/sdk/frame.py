"""pandas frames: JSON, a list of records or an object of columns; records on the way out."""

import importlib
from typing import Any

import msgspec
import numpy as np

from inferd.sdk.kinds import Kind, to_json_value
from inferd.sdk.mismatch import Mismatch, type_name
from inferd.types.signature import Form


class FrameKind(Kind):
    """pandas.DataFrame; pandas is imported when the first one is read."""

    form: Form = "json"
    expects = "DataFrame"

    def __init__(self) -> None:
        records = {"type": "array", "items": {"type": "object"}}
        columns = {"type": "object", "additionalProperties": {"type": "array"}}
        self.schema = {"anyOf": [records, columns]}

    def decode(self, item: Any) -> Any:
        value = to_json_value(item)
        pandas = importlib.import_module("pandas")
        if isinstance(value, list):
            for index, record in enumerate(value):
                if not isinstance(record, dict):
                    raise Mismatch(f"expected a record, got {type_name(record)}", f"[{index}]")
            return pandas.DataFrame.from_records(value)
        if isinstance(value, dict):
            return pandas.DataFrame(_equal_columns(value))
        raise Mismatch(
            f"expected a list of records or an object of columns, got {type_name(value)}"
        )

    def encode(self, value: Any) -> bytes:
        if not is_frame_class(type(value)):
            raise Mismatch(f"expected DataFrame, got {type_name(value)}")
        objects = value.astype(object)
        records = objects.where(value.notna(), None).to_dict("records")
        try:
            return msgspec.json.encode(records, enc_hook=_to_json)
        except (TypeError, ValueError, OverflowError) as error:
            raise Mismatch(f"expected a DataFrame that JSON can hold: {error}") from None

    def to_json(self, value: Any) -> bytes:
        return self.encode(value)


def is_frame_class(annotation: Any) -> bool:
    """Whether it is pandas.DataFrame or a subclass, without importing pandas."""
    bases = annotation.__mro__ if isinstance(annotation, type) else ()
    return any(b.__name__ == "DataFrame" and b.__module__.startswith("pandas") for b in bases)


def _equal_columns(columns: dict[str, Any]) -> dict[str, list[Any]]:
    lengths = set()
    for name, column in columns.items():
        if not isinstance(column, list):
            raise Mismatch(f"expected a list, got {type_name(column)}", f".{name}")
        lengths.add(len(column))
    if len(lengths) > 1:
        raise Mismatch(f"expected columns of one length, got {sorted(lengths)}")
    return columns


def _to_json(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if hasattr(value, "isoformat"):  # a Timestamp is a datetime that msgspec does not know
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
