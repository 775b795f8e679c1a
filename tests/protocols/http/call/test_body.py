from typing import Any

import pytest

from inferd.errors import InvalidRequest
from inferd.protocols.call.codec import CallCodec
from inferd.protocols.http.call.body import decode_call
from inferd.protocols.http.call.multipart import boundary_of, parts_of
from inferd.types.signature import Argument, Form, Signature

BOUNDARY = b"XyZ"
FORM = b"multipart/form-data; boundary=XyZ"


def argument(name: str, form: Form, datatype: str = "BYTES", **more: Any) -> Argument:
    return Argument(name=name, form=form, datatype=datatype, **more)


IMAGE = argument("image", "image")
TEXT = argument("text", "value")
TOP = argument("top", "value", "INT32", default="5")


def codec(*inputs: Argument) -> CallCodec:
    return CallCodec(Signature(inputs=inputs, outputs=()), (), True)


def form(*parts: tuple[str, bytes]) -> bytes:
    made = [
        b"--%b\r\nContent-Disposition: form-data; %b\r\nContent-Type: x/y\r\n\r\n%b\r\n"
        % (BOUNDARY, head.encode(), content)
        for head, content in parts
    ]
    return b"".join(made) + b"--%b--\r\n" % BOUNDARY


def read(made: CallCodec, body: bytes, kind: bytes) -> dict[str, Any]:
    tensors, _ = decode_call(made, body, kind)
    return {t.name: t.array.tolist() for t in tensors}


def test_a_form_carries_files_texts_and_json() -> None:
    content = b"\x89PNG\r\n--Xy\r\n\r\n\x00"
    made = codec(
        IMAGE, TEXT, TOP, argument("any", "json"), argument("x", "tensor", "FP32", shape=(2,))
    )
    body = form(
        ('name="image"; filename="cat.png"', content), ('name="text"', b"5"), ("name=top", b"3"),
        ('name="any"', b"not json"), ('name="x"', b"[1, 2]"),
    )  # fmt: skip
    assert read(made, body, FORM) == {
        "image": [content], "text": [b"5"], "top": [3], "any": [b'"not json"'], "x": [[1, 2]],
    }  # fmt: skip


def test_the_same_name_again_is_another_item() -> None:
    body = form(('name="image"; filename="a"', b"one"), ('filename="b"; name="image"', b"two"))
    assert read(codec(IMAGE), body, FORM) == {"image": [b"one", b"two"]}


def test_a_field_without_a_file_is_base64() -> None:
    assert read(codec(IMAGE), form(('name="image"', b"AAE=")), FORM) == {"image": [b"\0\1"]}


def test_a_file_alone_is_the_only_required_argument() -> None:
    assert read(codec(IMAGE, TOP), b"\xff\xd8", b"image/jpeg") == {"image": [b"\xff\xd8"]}
    assert read(codec(IMAGE), b"", b"application/octet-stream") == {"image": [b""]}
    assert read(codec(TEXT), "é".encode(), b"text/plain; charset=utf-8") == {"text": ["é".encode()]}
    assert read(codec(TEXT), b'{"text": "a"}', b"application/x-www-form-urlencoded") == {
        "text": [b"a"]
    }


@pytest.mark.parametrize(
    ("inputs", "body", "kind", "phrase"),
    [
        ((TOP,), b"", b"image/png", "only required argument, but it takes 'top'"),
        ((IMAGE, TEXT), b"", b"image/png", "'image' (image), 'text' (value)"),
        ((TOP,), b"5", b"text/plain", "must be the model's only required argument"),
        ((), b"5", b"text/plain", "takes none"),
        ((TEXT,), b"\xff", b"text/plain", "argument 'text': expected UTF-8 text"),
        ((IMAGE,), b"", b"multipart/form-data", "needs a boundary"),
        ((IMAGE,), b"", FORM, "does not hold its boundary"),
        ((IMAGE,), b"--XyZ\r\n\r\n", FORM, "ends before its closing boundary"),
        ((IMAGE,), b"--XyZ\r\nno head\r\n--XyZ--", FORM, "no head that ends"),
        ((IMAGE,), b"--XyZ\r\nA: b\r\n\r\nx\r\n--XyZ--", FORM, "no Content-Disposition"),
        ((IMAGE,), form(('name="other"', b"x")), FORM, "argument 'image' is required"),
        ((TOP,), form(('name="top"', b"x")), FORM, "argument 'top': expected its value in JSON"),
        ((TEXT,), form(('name="text"', b"\xff")), FORM, "argument 'text': expected UTF-8"),
        ((IMAGE,), form(*[('name="image"', b"")] * 1025), FORM, "more than 1024 parts"),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_read_is_refused(
    inputs: tuple[Argument, ...], body: bytes, kind: bytes, phrase: str
) -> None:
    with pytest.raises(InvalidRequest) as error:
        read(codec(*inputs), body, kind)
    assert phrase in str(error.value)


def test_parts_are_told_apart_by_the_whole_boundary() -> None:
    assert boundary_of('multipart/form-data; charset=x; boundary="a b"') == b"a b"
    body = b"preamble\r\n" + form(('name="a\\"b"', b"\r\n--XyZ inside\r\n"[:6]))
    (part,) = parts_of(body, BOUNDARY)
    assert (part.name, part.content, part.is_file) == ('a"b', b"\r\n--Xy", False)
