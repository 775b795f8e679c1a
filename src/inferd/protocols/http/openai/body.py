"""From the bytes of a request to one of the structs in `schemas/openai.py`, or a FieldError.

Pure; it may run on a thread.
"""

import re
from typing import TypeVar

import msgspec

from inferd.errors import InvalidRequest
from inferd.protocols.http.compression import decompress
from inferd.protocols.http.openai.errors import FieldError, UnsupportedMediaType

T = TypeVar("T", bound=msgspec.Struct)

_WHERE = re.compile(r"(?P<what>.*) - at `\$\.?(?P<field>[^`.\[]*)(?P<rest>[^`]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`")


def decode_body(body: bytes, fields: dict[bytes, bytes], kind: type[T], max_bytes: int) -> T:
    """The body as a `kind`; `fields` are the request's headers.

    Raises InvalidRequest, PayloadTooLarge, Unsupported or UnsupportedMediaType.
    """
    check_content_type(fields.get(b"content-type"))
    encoding = fields.get(b"content-encoding")
    if encoding is not None:
        body = decompress(body, encoding.decode("latin-1"), max_bytes)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the request's body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the request's body is nested too deeply") from None


def check_content_type(value: bytes | None) -> None:
    """Raises UnsupportedMediaType for a body that says it is something else than JSON."""
    kind = (value or b"").split(b";")[0].strip().lower()
    if kind and kind != b"application/json" and not kind.endswith(b"+json"):
        raise UnsupportedMediaType(
            f"Content-Type '{kind.decode('latin-1')}' is not supported; send application/json"
        )


def _explained(text: str) -> FieldError:
    """What msgspec says, with the field in front."""
    missing = _MISSING.search(text)
    if missing is not None:
        return FieldError(f"{missing['field']} is required and missing", missing["field"])
    found = _WHERE.fullmatch(text)
    if found is None or not found["field"]:
        return FieldError(f"the request's body: {text}", "")
    place = found["field"] + found["rest"]
    what = found["what"].replace("`", "'")
    return FieldError(f"{place}: {what[:1].lower()}{what[1:]}", found["field"])
