"""Pictures: a file in a BYTES element, a PIL image to the author.

PIL is imported when a picture is read. A file is refused by its head when it would take more than
MAX_PIXELS, and formats that are programs or documents are not read.
"""

import importlib
import io
from typing import Any

import msgspec

from inferd.sdk.kinds import Kind, to_bytes
from inferd.sdk.mismatch import Mismatch, type_name
from inferd.types.signature import Form

MAX_PIXELS = 64 << 20
"""More than any camera makes, and 256 MB as RGBA."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")

IMAGE_SCHEMA: dict[str, Any] = {
    "type": "string",
    "contentEncoding": "base64",
    "contentMediaType": "image/*",
}


class ImageKind(Kind):
    """PIL.Image.Image: any of FORMATS comes in, PNG goes out. `bytes` of a file may stand for it.

    Of several frames the first is taken.
    """

    form: Form = "image"
    expects = "PIL image"
    schema = IMAGE_SCHEMA

    def decode(self, item: Any) -> Any:
        return decode_image(to_bytes(item))

    def encode(self, value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        if not is_image_class(type(value)):
            raise Mismatch(f"expected PIL image, got {type_name(value)}")
        return encode_image(value)

    def to_json(self, value: Any) -> bytes:
        return msgspec.json.encode(self.encode(value))


def is_image_class(annotation: Any) -> bool:
    """Whether it is PIL.Image.Image or a subclass, without importing PIL."""
    bases = annotation.__mro__ if isinstance(annotation, type) else ()
    return any(base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in bases)


def decode_image(data: bytes) -> Any:
    """The picture of a file, read whole; raises Mismatch."""
    pillow = importlib.import_module("PIL.Image")
    try:
        image = pillow.open(io.BytesIO(data), formats=_readable(pillow))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise Mismatch(f"a picture of {width} x {height} is over {MAX_PIXELS} pixels")
        image.load()
    except Mismatch:
        raise
    except Exception as error:  # a broken file raises nearly anything, and it is the caller's
        words = "it is none of " + ", ".join(FORMATS)
        if not isinstance(error, pillow.UnidentifiedImageError):
            words = str(error)
        raise Mismatch(f"expected a picture file: {words}") from None
    return image


def _readable(pillow: Any) -> list[str]:
    pillow.init()
    return [name for name in FORMATS if name in pillow.OPEN]


def encode_image(image: Any) -> bytes:
    """A PNG file; modes that PNG does not have become RGB."""
    if image.mode not in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"):
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()
