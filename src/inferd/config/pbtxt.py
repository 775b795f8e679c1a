"""A model's configuration as Triton's own file has it: protobuf's text format of the message
ModelConfig, read into plain data and written from it.

protobuf is imported when there is something to read or to write. This module refuses to know what
a field means, but for what Triton takes a field to be that is left out, where inferd's own files
mean something else.
"""

import re
from pathlib import Path
from typing import Any, Final

from inferd.config.model import ModelConfig
from inferd.config.strict import parse_file, suggest
from inferd.errors import ConfigError

SUFFIX: Final = ".pbtxt"

_UNKNOWN_FIELD: Final = re.compile(r'Message type "([\w.]+)" has no field named "(\w+)"')
_UNKNOWN_VALUE: Final = re.compile(r'Enum type "([\w.]+)" has no value named (\w+)')
_PLACE: Final = re.compile(r"^\d+:\d+ : ")

_TIDIED: Final = re.compile(rb"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|#[^\n]*|(-)[ \t]+""")
"""A string, which may hold what looks like the rest; a comment; a sign that stands apart."""


def read_pbtxt(path: Path) -> dict[str, Any]:
    """The fields of a file, by Triton's names; raises ConfigError naming file, line and column."""
    return parse_file(path, parse_pbtxt, _tidied)


def parse_pbtxt(text: str, file: str) -> dict[str, Any]:
    """The fields of a text; numbers of 64 bits are text, as in protobuf's JSON, and what holds a
    default of the message is left out. Raises ConfigError."""
    from google.protobuf import json_format, text_format

    from inferd.schemas.pb.messages import POOL, message_class

    message = message_class("inference.ModelConfig")()
    try:
        text_format.Parse(text, message, descriptor_pool=POOL)
    except text_format.ParseError as error:
        where = f"line {error.GetLine()}, column {error.GetColumn()}: "
        field, why = _explained(_PLACE.sub("", str(error)))
        raise ConfigError(f"{where}{why}", file=file, field=field) from None
    fields: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return fields


def format_pbtxt(document: dict[str, Any]) -> str:
    """The text of a configuration in Triton's JSON form, a field a line; what holds a default of
    the message is left out, as protobuf does."""
    from google.protobuf import json_format, text_format

    from inferd.schemas.pb.messages import message_class

    message = json_format.ParseDict(document, message_class("inference.ModelConfig")())
    text: str = text_format.MessageToString(message)
    return text


def _tidied(raw: bytes) -> bytes:
    """What protobuf's C++ reads and its Python does not: comments in any encoding, and `- 1`.
    Every line stays where it is."""
    return _TIDIED.sub(rb"\1\2", raw)


def _explained(text: str) -> tuple[str, str]:
    """The field that is wrong, where there is one name for it, and what is."""
    from inferd.schemas.pb.messages import POOL

    if found := _UNKNOWN_FIELD.search(text):
        message, name = found.groups()
        if message == "inference.ModelConfig" and name in ModelConfig.__struct_fields__:
            return name, "is a field of inferd's own, which only config.yaml can have"
        known = POOL.FindMessageTypeByName(message).fields_by_name
        return name, f"unknown field, {suggest(name, known)}"
    if found := _UNKNOWN_VALUE.search(text):
        kind, name = found.groups()
        known = POOL.FindEnumTypeByName(kind).values_by_name
        return "", f"unknown value {name}, {suggest(name, known)}"
    return "", text


def as_triton_reads(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a valid configuration, with what is left out of Triton's where inferd's own
    would mean something else.

    Dimensions that are written out hold the batch where `max_batch_size` is 0, which protobuf does
    not tell from nothing said: without them the model is asked. A request's time-out is not looked
    at unless a policy says so. A warm-up without a batch size has no batch.
    """
    if "input" in fields or "output" in fields:
        fields.setdefault("max_batch_size", 0)
    if not {"sequence_batching", "ensemble_scheduling"} & fields.keys():
        batching = fields.setdefault("dynamic_batching", {})
        policy = batching.setdefault("default_queue_policy", {})
        for one in (policy, *batching.get("priority_queue_policy", {}).values()):
            one.setdefault("allow_timeout_override", False)
    for warmup in fields.get("model_warmup", ()):
        warmup.setdefault("batch_size", 0)
    return fields
