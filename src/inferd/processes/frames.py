"""Messages as bytes: MessagePack in frames, each behind its length in four bytes.

Nothing is pickled, so nothing that arrives is executed. An error crosses as the name of its class
in `errors.py`, what it says and its fields. It refuses to know sockets.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from inferd import errors
from inferd.errors import InferdError, InvalidRequest

T = TypeVar("T")

HEAD: Final = 4

_ERRORS: Final = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, InferdError)
}


def crossing(text: str) -> str:
    """A text of anybody's as it crosses: lone surrogates, which UTF-8 has not, are spelt out."""
    return text.encode(errors="backslashreplace").decode()


def _encoded(value: Any) -> Any:
    if isinstance(value, InferdError):
        kind = next(kind.__name__ for kind in type(value).__mro__ if kind.__name__ in _ERRORS)
        fields = {
            name: crossing(field) if isinstance(field, str) else field
            for name, field in vars(value).items()
        }
        return kind, crossing(str(value)), fields
    raise NotImplementedError(f"{type(value).__name__} does not cross")


def _decoded(kind: type, value: Any) -> Any:
    name, message, fields = value
    error = _ERRORS[name].__new__(_ERRORS[name], message)
    vars(error).update(fields)
    return error


_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_encoded)


def frame(message: msgspec.Struct) -> bytes:
    """A message as it is sent. Raises InvalidRequest for what MessagePack cannot hold."""
    try:
        body = _encoder.encode(message)
    except (OverflowError, UnicodeEncodeError) as error:
        raise InvalidRequest(
            "numbers must be of 64 bits or less, and texts be Unicode without lone surrogates"
        ) from error
    return len(body).to_bytes(HEAD, "big") + body


class Unread(NamedTuple):
    """A message that is none of those that are known: its name and the number behind it, as far as
    they can be made out, and why."""

    name: str
    number: int
    why: str


class Frames(Generic[T]):
    """What has arrived and is not a whole message yet; messages are those of `kind`. What cannot be
    decoded is raised, or told to `unread`, which gives what stands for it."""

    def __init__(self, kind: Any, unread: Callable[[Unread], T] | None = None) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind, dec_hook=_decoded)
        self._unread = unread
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[T]:
        """The messages that these bytes complete."""
        self._data += data
        start = 0
        with memoryview(self._data) as view:
            while len(view) >= start + HEAD:
                end = start + HEAD + int.from_bytes(view[start : start + HEAD], "big")
                if len(view) < end:
                    break
                yield self._message(view[start + HEAD : end])
                start = end
        del self._data[:start]

    def _message(self, body: memoryview) -> T:
        try:
            return self._decoder.decode(body)
        except Exception as error:  # also what an error of unknown fields raises
            if self._unread is None:
                raise
            return self._unread(Unread(*_beginning(body), str(error)))


def _beginning(body: memoryview) -> tuple[str, int]:
    try:
        name, number, *_ = msgspec.msgpack.decode(body)
    except (msgspec.DecodeError, TypeError, ValueError):
        return "", 0
    return (name, number) if isinstance(name, str) and isinstance(number, int) else ("", 0)
