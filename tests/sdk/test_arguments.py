"""What annotations of arguments mean as tensors, and what does not fit them."""

import datetime
import enum
import functools
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import PIL.Image
import pydantic
import pytest

import inferd
from inferd.errors import InvalidRequest
from inferd.sdk.runtime import ModelRuntime
from inferd.types.signature import Argument
from sdk.calls import failure, loaded, outputs, run, texts


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Person:
    name: str
    age: int


class Pair(msgspec.Struct):
    left: Person
    right: Person | None = None


class Options(TypedDict):
    depth: int


class Point(NamedTuple):
    x: float
    y: float


class Order(pydantic.BaseModel):
    count: int = pydantic.Field(ge=1)


def taking(annotation: Any, default: Any = ..., **options: Any) -> type[inferd.Model]:
    """A model whose only argument `x` has that annotation; it answers with what it got."""

    def predict(self, x):  # type: ignore[no-untyped-def]
        return [repr(item) for item in x] if options.get("max_batch_size") else repr(x)

    predict.__annotations__ = {
        "x": annotation, "return": list[str] if options.get("max_batch_size") else str
    }  # fmt: skip
    if default is not ...:
        predict.__defaults__ = (default,)
    return type("Taking", (inferd.Model,), {"predict": predict}, **options)


def argument(annotation: Any, **options: Any) -> Argument:
    return ModelRuntime(taking(annotation, **options)).card.signature.inputs[0]


def got(annotation: Any, array: Any) -> str:
    (outcome,) = run(taking(annotation), array)
    text: str = outputs(outcome)[0][0].decode()
    return text


def refused(annotation: Any, array: Any) -> str:
    (outcome,) = run(taking(annotation), array)
    return failure(outcome, InvalidRequest)


@pytest.mark.parametrize(
    ("annotation", "datatype", "form", "shape"),
    [
        (npt.NDArray[np.float32], "FP32", "tensor", None),
        (np.ndarray, "FP32", "tensor", None),
        (npt.NDArray[Any], "FP32", "tensor", None),
        (Annotated[npt.NDArray[np.uint8], inferd.Shape(None, 3)], "UINT8", "tensor", (-1, 3)),
        (Annotated[npt.NDArray[np.float64], inferd.Shape()], "FP64", "value", ()),
        (npt.NDArray[np.str_], "BYTES", "tensor", None),
        (int, "INT64", "value", ()),
        (float, "FP64", "value", ()),
        (bool, "BOOL", "value", ()),
        (np.float16, "FP16", "value", ()),
        (str, "BYTES", "value", ()),
        (bytes, "BYTES", "bytes", ()),
        (PIL.Image.Image, "BYTES", "image", ()),
        (pd.DataFrame, "BYTES", "json", ()),
        (Person, "BYTES", "json", ()),
        (Order, "BYTES", "json", ()),
        (str | None, "BYTES", "json", ()),
        (Colour, "BYTES", "json", ()),
        (Any, "BYTES", "json", ()),
    ],
)
def test_datatype_form_and_shape(
    annotation: Any, datatype: str, form: str, shape: tuple[int, ...] | None
) -> None:
    made = argument(annotation)
    assert (made.datatype, made.form, made.shape) == (datatype, form, shape)


@pytest.mark.parametrize(
    ("annotation", "array", "value"),
    [
        (int, np.array([3]), "3"),
        (bool, np.array([True]), "True"),
        (float, np.array([0.5]), "0.5"),
        (np.float32, np.array([0.5], np.float32), "np.float32(0.5)"),
        (str, texts("é"), "'é'"),
        (bytes, texts(b"\xff"), r"b'\xff'"),
        (Annotated[npt.NDArray[np.float64], inferd.Shape()], np.array([1.5]), "array(1.5)"),
        (npt.NDArray[np.str_], texts("a", "b"), "array(['a', 'b'], dtype=object)"),
        (Person, texts('{"name":"A","age":3}'), "Person(name='A', age=3)"),
        (Options, texts('{"depth":3}'), "{'depth': 3}"),
        (Point, texts("[1,2]"), "Point(x=1.0, y=2.0)"),
        (Order, texts('{"count":2}'), "Order(count=2)"),
        (list[Order], texts('[{"count":2}]'), "[Order(count=2)]"),
        (dict[str, list[int]], texts('{"a":[1]}'), "{'a': [1]}"),
        (str | None, texts("null"), "None"),
        (Literal["a", "b"], texts('"a"'), "'a'"),
        (Colour, texts('"red"'), "<Colour.RED: 'red'>"),
        (datetime.date, texts('"2026-01-02"'), "datetime.date(2026, 1, 2)"),
        (Any, texts('{"a":[1]}'), "{'a': [1]}"),
    ],
)
def test_tensors_become_values(annotation: Any, array: Any, value: str) -> None:
    assert got(annotation, array) == value


@pytest.mark.parametrize(
    ("annotation", "array", "words"),
    [
        (Person, texts('{"name":"A","age":"3"}'), "argument 'x.age': expected int, got str"),
        (Person, texts('{"name":"A"}'), "argument 'x': object missing required field age"),
        (Pair, texts('{"left":{"name":1,"age":1}}'), "argument 'x.left.name': expected str"),
        (list[Pair], texts("[1]"), "argument 'x[0]': expected object, got int"),
        (Person, texts("{"), "argument 'x': expected JSON: "),
        (Person, texts(b"\xff"), "argument 'x': "),
        (Order, texts('{"count":0}'), "argument 'x.count': input should be greater than"),
        (str, texts(b"\xff\xfe"), "argument 'x': expected UTF-8 text"),
        (int, np.array([1, 2]), "argument 'x': expected shape [1], got [2]"),
        (int, np.array([1.0]), "argument 'x': expected int, got a float64 tensor"),
        (
            Annotated[npt.NDArray[np.float32], inferd.Shape(None, 2)],
            np.zeros((2, 3), np.float32),
            "argument 'x': expected shape [any, 2], got [2, 3]",
        ),
        (
            npt.NDArray[np.float32],
            np.zeros(2),
            "argument 'x': expected float32 array, got a float64",
        ),
        (Annotated[int, inferd.Field(ge=1)], np.array([0]), "argument 'x': expected int >= 1"),
        (
            Annotated[str, inferd.Field(max_length=2)],
            texts("abc"),
            "argument 'x': expected str of length <= 2",
        ),
        (pd.DataFrame, texts("[1]"), "argument 'x[0]': expected a record, got int"),
        (pd.DataFrame, texts('{"a":1}'), "argument 'x.a': expected a list, got int"),
        (pd.DataFrame, texts('{"a":[1],"b":[]}'), "expected columns of one length"),
        (PIL.Image.Image, texts(b"GIF89a"), "argument 'x': expected a picture file"),
        (PIL.Image.Image, texts(b"%!PS-Adobe"), "it is none of PNG, JPEG"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_path(annotation: Any, array: Any, words: str) -> None:
    assert words in refused(annotation, array)


def test_rows_of_texts_are_not_taken_for_texts() -> None:
    batch = np.full((2, 2), b"a", object)
    (outcome,) = run(taking(list[str], max_batch_size=4), batch, rows=[2])
    assert "argument 'x': expected str, got an array of shape [2]" in failure(
        outcome, InvalidRequest
    )


def test_a_deep_json_is_refused() -> None:
    assert "argument 'x': expected JSON" in refused(Any, texts("[" * 100_000))


@pytest.mark.parametrize("text", ['[{"a":1,"b":"x"},{"a":2,"b":"y"}]', '{"a":[1,2],"b":["x","y"]}'])
def test_a_frame_comes_as_records_or_columns(text: str) -> None:
    assert got(pd.DataFrame, texts(text)) == repr(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))


def test_a_picture_is_read_whole() -> None:
    file = io.BytesIO()
    PIL.Image.new("RGB", (5, 3), "red").save(file, "JPEG")
    assert "size=5x3" in got(PIL.Image.Image, texts(file.getvalue()))


def test_a_picture_over_the_limit_is_refused_by_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    PIL.Image.new("1", (200, 100)).save(file, "PNG")
    monkeypatch.setattr("inferd.sdk.image.MAX_PIXELS", 19_999)
    assert "a picture of 200 x 100 is over 19999 pixels" in refused(
        PIL.Image.Image, texts(file.getvalue())
    )


def test_schemas_stand_alone_and_tell_bounds_and_descriptions() -> None:
    schema = argument(Pair).schema
    assert schema["$ref"] == "#/$defs/Pair"
    assert set(schema["$defs"]) == {"Pair", "Person"}
    made = argument(Annotated[int, inferd.Field(ge=1, description="how many")])
    assert made.schema == {"type": "integer", "minimum": 1, "description": "how many"}
    assert made.description == "how many"
    assert argument(list[Order]).schema["$defs"]["Order"]["properties"]["count"]["minimum"] == 1
    assert argument(PIL.Image.Image).schema["contentEncoding"] == "base64"


def test_a_default_is_told_as_json_and_as_a_tensor() -> None:
    card = ModelRuntime(taking(Person, Person("A", 1))).card
    assert card.signature.inputs[0].default == '{"name":"A","age":1}'
    assert card.defaults["x"].array().tolist() == [b'{"name":"A","age":1}']
    assert outputs(run(taking(int, 7), None)[0]) == [[b"7"]]
    batched = ModelRuntime(taking(list[str], ["a"], max_batch_size=4)).card
    assert batched.signature.inputs[0].default == '"a"'
    assert batched.defaults["x"].array().tolist() == [b"a"]


def test_an_array_that_may_be_none_has_no_tensor_then() -> None:
    model = taking(npt.NDArray[np.float32] | None, None)
    card = ModelRuntime(model).card
    assert card.signature.inputs[0].default == "null"
    assert card.inputs[0].optional
    assert card.defaults == {}
    assert outputs(run(model, None)[0]) == [[b"None"]]
    assert outputs(run(model, np.ones(1, np.float32))[0]) == [[b"array([1.], dtype=float32)"]]


def test_one_that_is_missing_is_named() -> None:
    assert failure(run(taking(int), None)[0], InvalidRequest) == (
        "argument 'x' is missing; the model needs it"
    )


@pytest.mark.parametrize(
    ("annotation", "default", "words"),
    [
        (int, "a", "expected int, got str"),
        (int, None, "expected int, got NoneType"),
        (Annotated[int, inferd.Field(ge=1)], 0, "expected int >= 1"),
        (npt.NDArray[np.float32] | None, ..., "what may be None needs the default None"),
        (complex, ..., "cannot be read from JSON"),
        (npt.NDArray[np.complex64], ..., "there are no tensors of complex64"),
        (npt.NDArray[np.floating], ..., "an array needs one dtype such as np.float32"),
        (Annotated[int, inferd.Shape(1)], ..., "a Shape is for arrays, not for int"),
        (PIL.Image, ..., "PIL.Image is a module, not a type"),
        (Annotated[int, pydantic.Field(ge=1)], ..., "said with inferd.Field"),
        (list[pd.DataFrame], ..., "cannot be read from JSON"),
    ],
)
def test_what_cannot_be_an_argument(annotation: Any, default: Any, words: str) -> None:
    with pytest.raises(TypeError) as raised:
        ModelRuntime(taking(annotation, default))
    assert str(raised.value).startswith("Taking.predict: parameter 'x': ")
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("annotation", "default", "words"),
    [
        (str, ..., "write list[str], or an array with a leading batch dimension"),
        (
            Annotated[npt.NDArray[np.float32], inferd.Shape(8, 64)],
            ...,
            "Shape(8, 64): the first dimension is the batch; make it None",
        ),
        (list[int], 5, "its default is a batch of one item, for example [5]"),
        (list[int] | None, None, "a batch is never None"),
    ],
)
def test_what_cannot_be_a_batch(annotation: Any, default: Any, words: str) -> None:
    with pytest.raises(TypeError) as raised:
        ModelRuntime(taking(annotation, default, max_batch_size=4))
    assert words in str(raised.value)


def test_shapes_of_tensors_have_the_batch_dimension() -> None:
    image = Annotated[npt.NDArray[np.float32], inferd.Shape(None, 64)]
    assert ModelRuntime(taking(image, max_batch_size=4)).card.inputs[0].shape == (-1, 64)
    assert ModelRuntime(taking(image)).card.inputs[0].shape == (-1, 64)
    assert ModelRuntime(taking(list[str], max_batch_size=4)).card.inputs[0].shape == (-1,)
    assert ModelRuntime(taking(str)).card.inputs[0].shape == (1,)
    assert argument(image, max_batch_size=4).shape == (64,)
    of_items = list[Annotated[npt.NDArray[np.float32], inferd.Shape(64)]]
    assert ModelRuntime(taking(of_items, max_batch_size=4)).card.inputs[0].shape == (-1, 64)


def test_an_argument_needs_an_annotation_and_a_name() -> None:
    class Bare(inferd.Model):
        def predict(self, x) -> str:  # type: ignore[no-untyped-def]
            return str(x)

    class Many(inferd.Model):
        def predict(self, *x: int) -> int:
            return x[0]

    class Silent(inferd.Model):
        def predict(self, x: int):  # type: ignore[no-untyped-def]
            return x

    class Static(inferd.Model):
        @staticmethod
        def predict(x: int) -> int:
            return x

    class Endless(inferd.Model):
        def predict(self, x: int) -> Iterator:  # type: ignore[type-arg]
            yield x

    class Unknown(inferd.Model):
        def predict(self, x: "Nope") -> int:  # type: ignore[name-defined]  # noqa: F821
            return 1

    class Mounted(inferd.Model, mount="/demo"):
        def predict(self, x: int) -> int:
            return x

    for model, words in [
        (Bare, r"Bare.predict: parameter 'x' has no annotation; write its type"),
        (Many, r"Many.predict: '\*x: int': every argument needs a name of its own"),
        (Silent, r"Silent.predict: its result has no annotation; write -> and its type"),
        (Static, r"Static.predict must be a method that takes self"),
        (inferd.Model, r"Model has no method predict"),
        (Endless, r"Endless.predict: say what the stream is of"),
        (Unknown, r"Unknown.predict: its annotations cannot be read: name 'Nope'"),
        (Mounted, r"Mounted: option 'mount' says where its 'asgi' answers, and it has none"),
    ]:
        with pytest.raises(TypeError, match=words):
            ModelRuntime(model)


def test_arrays_are_handed_over_without_a_copy() -> None:
    class Keep(inferd.Model):
        def predict(self, x: npt.NDArray[np.float32]) -> int:
            self.seen = x
            return 0

    runtime, array = loaded(Keep), np.zeros(3, np.float32)
    array.flags.writeable = False
    run(runtime, array)
    assert np.shares_memory(runtime.model.seen, array)  # type: ignore[attr-defined]


def test_a_batch_of_arrays_may_be_a_list() -> None:
    class Sums(inferd.Model, max_batch_size=4):
        def predict(self, x: list[npt.NDArray[np.float32]]) -> list[float]:
            return [float(array.sum()) for array in x]

    first, second = run(Sums, np.ones((3, 2), np.float32), rows=[2, 1])
    assert (outputs(first), outputs(second)) == ([[2.0, 2.0]], [[2.0]])


def test_a_wrong_text_in_an_array_fails_only_its_request() -> None:
    class Same(inferd.Model, max_batch_size=4):
        def predict(self, x: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
            return x

    first, second = run(Same, texts(b"a", b"\xff"), rows=[1, 1])
    assert outputs(first) == [[b"a"]]
    assert "argument 'x': expected UTF-8 text" in failure(second, InvalidRequest)


def test_a_default_stands_for_every_item_of_a_batch() -> None:
    class Holes(inferd.Model, max_batch_size=4):
        def predict(self, x: list[float | None] = [None]) -> list[bool]:  # noqa: B006
            return [value is None for value in x]

    first, second = run(Holes, None, rows=[2, 1])
    assert (outputs(first), outputs(second)) == ([[True, True]], [[True]])


def test_a_decorated_method_keeps_its_arguments() -> None:
    def logged(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def inner(*args: Any, **keywords: Any) -> int:
            return function(*args, **keywords)

        return inner

    class Times(inferd.Model):
        @logged
        def predict(self, x: int, *, k: int = 2) -> int:
            return x * k

    assert outputs(run(Times, np.array([2]), None)[0]) == [[4]]
    assert outputs(run(Times, np.array([2]), np.array([5]))[0]) == [[10]]
