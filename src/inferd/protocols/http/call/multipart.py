"""A multipart/form-data body as its parts. Pure. Sources: RFC 7578, RFC 2046."""

import re
from email.message import Message

import msgspec

from inferd.errors import InvalidRequest

MAX_PARTS = 1024
_MAX_HEAD_BYTES = 8192
_QUOTED = re.compile(rb'(?:^|;)\s*(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_PLAIN = re.compile(rb'(?:^|;)\s*(name|filename)=([^";\s]+)', re.IGNORECASE)


class Part(msgspec.Struct, frozen=True):
    """One field of a form; `is_file` says that it came with a file name."""

    name: str
    content: bytes
    is_file: bool


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type header names; raises InvalidRequest."""
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if not isinstance(boundary, str) or not 0 < len(boundary) <= 200:
        raise InvalidRequest("Content-Type multipart/form-data needs a boundary=... behind it")
    return boundary.encode("latin-1", "replace")


def parts_of(body: bytes, boundary: bytes) -> list[Part]:
    """The parts of a form; raises InvalidRequest."""
    mark = b"--" + boundary
    if not body.startswith(mark):
        found = body.find(b"\r\n" + mark)
        if found < 0:
            raise InvalidRequest("the multipart body does not hold its boundary")
        body = body[found + 2 :]
    parts: list[Part] = []
    offset = len(mark)
    while body[offset : offset + 2] != b"--":
        if len(parts) >= MAX_PARTS:
            raise InvalidRequest(f"the multipart body has more than {MAX_PARTS} parts")
        start = body.find(b"\r\n", offset)
        end = body.find(b"\r\n" + mark, start)
        if start < 0 or end < 0:
            raise InvalidRequest("the multipart body ends before its closing boundary")
        parts.append(_part(body[start + 2 : end]))
        offset = end + 2 + len(mark)
    return parts


def _part(data: bytes) -> Part:
    head, separator, content = data.partition(b"\r\n\r\n")
    if not separator or len(head) > _MAX_HEAD_BYTES:
        raise InvalidRequest("a part of the multipart body has no head that ends")
    for line in head.split(b"\r\n"):
        field, _, value = line.partition(b":")
        if field.strip().lower() == b"content-disposition":
            kind, _, rest = value.partition(b";")
            found = dict(_named(rest))
            if kind.strip().lower() == b"form-data" and b"name" in found:
                name = found[b"name"].decode("utf-8", "replace")
                return Part(name, content, b"filename" in found)
    raise InvalidRequest(
        "a part of the multipart body has no Content-Disposition: form-data; name=..."
    )


def _named(text: bytes) -> list[tuple[bytes, bytes]]:
    quoted = [(k.lower(), re.sub(rb"\\(.)", rb"\1", v)) for k, v in _QUOTED.findall(text)]
    return [(k.lower(), v) for k, v in _PLAIN.findall(_QUOTED.sub(b"", text))] + quoted
