"""Whatever comes in is a value or a Mismatch; what goes out comes back."""

import datetime
import io
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd
import PIL.Image
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import inferd
from inferd.sdk.choosing import kind_of
from inferd.sdk.json_kinds import AnyJsonKind
from inferd.sdk.kinds import Kind
from inferd.sdk.mismatch import Mismatch
from inferd.sdk.slots import Slot
from inferd.types.signature import Argument


@dataclass
class Leaf:
    name: str
    when: datetime.date | None = None


class Tree(TypedDict):
    leaves: list[Leaf]
    depth: NotRequired[int]


class Form(pydantic.BaseModel):
    text: str
    number: float | None = None


@dataclass
class Drawing:
    points: npt.NDArray[np.float32]
    picture: PIL.Image.Image | None = None


FROM_BYTES: list[Any] = [str, Leaf, Tree, Form, list[Form], Drawing, Any, pd.DataFrame,
                         PIL.Image.Image, int | str]  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)  # fmt: skip


def items(kind: Kind, layout: Any = "list") -> Slot:
    argument = Argument(name="x", datatype=kind.datatype.name, form=kind.form)
    return Slot(argument, kind, layout)


def a_picture(kind: str) -> bytes:
    file = io.BytesIO()
    PIL.Image.effect_noise((9, 7), 50).save(file, kind)
    return file.getvalue()


PICTURES = [a_picture(kind) for kind in ("PNG", "GIF", "BMP", "TIFF", "PPM", "JPEG", "WEBP")]


@pytest.mark.parametrize("annotation", FROM_BYTES, ids=str)
@given(data=st.binary(max_size=40))
def test_any_bytes_are_a_value_or_a_mismatch(annotation: Any, data: bytes) -> None:
    kind = _kind(annotation)
    with suppress(Mismatch):  # and nothing else
        kind.decode(data)


@pytest.mark.parametrize("annotation", FROM_BYTES[1:], ids=str)
@given(value=JSON)
def test_any_json_is_a_value_or_a_mismatch(annotation: Any, value: Any) -> None:
    kind = _kind(annotation)
    with suppress(Mismatch):
        kind.decode(AnyJsonKind({}).encode(value))


@given(st.sampled_from(PICTURES), st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_picture_is_a_picture_or_a_mismatch(file: bytes, at: int, byte: int) -> None:
    damaged = bytearray(file)
    damaged[at % len(file)] = byte
    kind = _kind(PIL.Image.Image)
    for data in (bytes(damaged), file[: at % len(file)]):
        with suppress(Mismatch):
            assert kind.decode(data).size


_KINDS: dict[str, Kind] = {}


def _kind(annotation: Any) -> Kind:
    return _KINDS.setdefault(str(annotation), kind_of(annotation))


@pytest.mark.parametrize(
    ("annotation", "values"),
    [
        (int, st.integers(-(2**63), 2**63 - 1)),
        (float, st.floats(allow_nan=False)),
        (bool, st.booleans()),
        (str, st.text()),
        (bytes, st.binary()),
        (Any, JSON),
        (Leaf, st.builds(Leaf, st.text(), st.none() | st.dates())),
        (Form, st.builds(Form, text=st.text(), number=st.none() | st.floats(-9, 9))),
    ],
    ids=str,
)
@given(data=st.data())
def test_what_goes_out_comes_back(annotation: Any, values: Any, data: st.DataObject) -> None:
    batch = data.draw(st.lists(values, min_size=1, max_size=4))
    kind = _kind(annotation)
    assert items(kind).decode(items(kind).encode(batch, len(batch))) == batch
    alone = items(kind, "item")
    assert alone.decode_one(alone.encode_one(batch[0])) == batch[0]


def test_arrays_and_pictures_inside_a_record_come_back() -> None:
    picture = PIL.Image.effect_noise((5, 4), 60)
    kind = _kind(Drawing)
    again = kind.decode(kind.encode(Drawing(np.arange(3, dtype=np.float32), picture)))
    assert again.points.dtype == np.float32
    assert again.points.tolist() == [0, 1, 2]
    assert again.picture.tobytes() == picture.tobytes()
    with pytest.raises(Mismatch, match="expected a picture file") as raised:
        kind.decode(b'{"points": [], "picture": "AAAA"}')
    assert raised.value.path == ".picture"


@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=4))
def test_whole_numbers_fit_or_are_refused(values: list[int]) -> None:
    kind = _kind(npt.NDArray[np.int16])
    try:
        array = kind.encode(values)
    except Mismatch:
        assert any(not -(2**15) <= value < 2**15 for value in values)
    else:
        assert array.dtype == np.int16
        assert array.tolist() == values


def test_a_bound_holds_in_a_batch_of_texts_and_numbers() -> None:
    short = items(kind_of(Annotated[str, inferd.Field(max_length=2, pattern="^a")]))
    array = np.array([b"a", b"ab"], object)
    assert short.decode(array) == ["a", "ab"]
    array[0] = b"b"
    with pytest.raises(Mismatch, match="expected str matching regex"):
        short.decode(array)
