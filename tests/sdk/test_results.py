"""What a model returns, as outputs, and what does not fit its annotation."""

import io
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import PIL.Image
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import inferd
from inferd.errors import BackendError, InvalidRequest
from inferd.sdk.call import Call
from inferd.sdk.runtime import ModelRuntime
from sdk.calls import failure, loaded, outputs, run, texts

Floats = npt.NDArray[np.float32]


@dataclass
class Found:
    label: str
    score: float


class Box(NamedTuple):
    corner: int
    size: int


class Seen(TypedDict):
    label: str


class Guess(msgspec.Struct):
    label: str
    scores: Floats


class Reply(pydantic.BaseModel):
    text: str
    n: int


@dataclass
class Nested:
    boxes: Floats
    labels: list[str]


@dataclass
class Columns:
    label: list[str]
    score: Floats


def giving(annotation: Any, value: Any, **options: Any) -> type[inferd.Model]:
    """A model that gives that value, whatever its argument."""

    def predict(self, x):  # type: ignore[no-untyped-def]
        return value

    batched = options.get("max_batch_size")
    predict.__annotations__ = {"x": list[int] if batched else int, "return": annotation}
    return type("Giving", (inferd.Model,), {"predict": predict}, **options)


def one(annotation: Any, value: Any) -> Any:
    return run(giving(annotation, value), np.array([0]))[0]


def many(annotation: Any, value: Any, rows: list[int]) -> list[Any]:
    return run(giving(annotation, value, max_batch_size=8), np.zeros(sum(rows), np.int64),
               rows=rows)  # fmt: skip


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 3, [[3]]),
        (int, np.int32(3), [[3]]),
        (float, 3, [[3.0]]),
        (float, np.float32(0.5), [[0.5]]),
        (float, np.array(0.5), [[0.5]]),
        (bool, np.True_, [[True]]),
        (str, "é", [["é".encode()]]),
        (bytes, bytearray(b"a"), [[b"a"]]),
        (Floats, [[1, 2]], [[[1.0, 2.0]]]),
        (npt.NDArray[np.uint8], np.array([255]), [[255]]),
        (npt.NDArray[np.str_], np.array(["a"]), [[b"a"]]),
        (tuple[int, str], (1, "a"), [[1], [b"a"]]),
        (Found, Found("a", 1), [[b"a"], [1.0]]),
        (Box, Box(1, 2), [[1], [2]]),
        (Seen, {"label": "a"}, [[b"a"]]),
        (Guess, Guess("a", np.ones(2)), [[b"a"], [1.0, 1.0]]),
        (Reply, Reply(text="a", n=1), [[b"a"], [1]]),
        (list[Found], [Found("a", 0.5)], [[b'[{"label":"a","score":0.5}]']]),
        (Nested, Nested(np.ones(1), ["a"]), [[b'{"boxes":[1.0],"labels":["a"]}']]),
        (list[Reply], [Reply(text="a", n=1)], [[b'[{"text":"a","n":1}]']]),
        (dict[str, float], {"a": np.float32(1)}, [[b'{"a":1.0}']]),
        (Any, {"a": [np.int8(1)]}, [[b'{"a":[1]}']]),
        (None, None, [[b"null"]]),
        (
            pd.DataFrame,
            pd.DataFrame({"a": [1.5, None], "t": pd.to_datetime(["2026-01-02", None])}),
            [[b'[{"a":1.5,"t":"2026-01-02T00:00:00"},{"a":null,"t":null}]']],
        ),
    ],
)
def test_results_become_tensors(annotation: Any, value: Any, expected: Any) -> None:
    assert outputs(one(annotation, value)) == expected


def test_a_picture_goes_out_as_png_whatever_its_mode() -> None:
    for mode in ("RGB", "L", "CMYK", "F", "RGBA"):
        ((data,),) = outputs(one(PIL.Image.Image, PIL.Image.new(mode, (4, 2))))
        assert PIL.Image.open(io.BytesIO(data)).format == "PNG"


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (int, 1.5, "result 'output': expected int64, got float64"),
        (int, "a", "result 'output': expected int, got str"),
        (int, None, "result 'output': expected int, got NoneType"),
        (int, 1 << 70, "result 'output': expected int"),
        (bool, 1, "result 'output': expected bool, got int64"),
        (str, 3, "result 'output': expected str, got int"),
        (str, "\ud800", "half of a surrogate pair"),
        (Floats, ["a"], "result 'output': expected float32 array, got list"),
        (Floats, [[1], [1, 2]], "result 'output': expected float32 array, got list"),
        (npt.NDArray[np.uint8], [256], "expected uint8, got 256, which does not fit"),
        (npt.NDArray[np.int64], [0.5], "expected int64, got float64"),
        (
            Annotated[Floats, inferd.Shape(2)],
            [1, 2, 3],
            "result 'output': expected shape [2], got [3]",
        ),
        (tuple[int, int], (1, 2, 3), "expected a tuple of 2, got 3"),
        (Found, Seen(label="a"), "expected Found, got dict"),
        (Seen, {}, "expected Seen, 'label' is missing"),
        (Found, Found("a", "b"), "result 'score': expected float, got str"),  # type: ignore[arg-type]
        (list[int], ["a"], "result 'output[0]': expected int, got str"),
        (Nested, Nested(np.ones(1), [1]), "result 'output.labels[0]': expected str"),  # type: ignore[list-item]
        (dict[str, float], {"a": float("nan")}, "NaN and infinity are null in JSON"),
        (Any, object(), "got object"),
        (PIL.Image.Image, "a", "expected PIL image, got str"),
        (pd.DataFrame, [], "expected DataFrame, got list"),
        (list[Reply], [{"text": 1, "n": 1}], "result 'output[0].text'"),
    ],
)
def test_a_wrong_result_says_what_was_expected(annotation: Any, value: Any, words: str) -> None:
    assert words in failure(one(annotation, value), BackendError)


def names(annotation: Any, **options: Any) -> tuple[tuple[str, ...], bool]:
    signature = ModelRuntime(giving(annotation, None, **options)).card.signature
    return tuple(o.name for o in signature.outputs), signature.bare


def test_outputs_are_named() -> None:
    assert names(int) == (("output",), True)
    assert names(tuple[int, str]) == (("output_0", "output_1"), False)
    assert names(Found) == (("label", "score"), False)
    assert names(Reply) == (("text", "n"), False)
    assert names(Nested) == (("output",), True)
    assert names(tuple[int, ...]) == (("output",), True)
    assert names(Columns, max_batch_size=2) == (("label", "score"), False)
    assert names(list[Found], max_batch_size=2) == (("label", "score"), False)
    assert names(list[Nested], max_batch_size=2) == (("output",), True)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Columns, Columns(["a", "b", "c"], np.arange(3))),  # type: ignore[arg-type]
        (list[Found], [Found("a", 0), Found("b", 1), Found("c", 2)]),
        (tuple[list[str], Floats], (["a", "b", "c"], [0, 1, 2])),
        (list[tuple[str, float]], [("a", 0), ("b", 1), ("c", 2)]),
    ],
)
def test_a_batch_is_split_over_its_requests(annotation: Any, value: Any) -> None:
    first, second = many(annotation, value, [2, 1])
    assert outputs(first) == [[b"a", b"b"], [0.0, 1.0]]
    assert outputs(second) == [[b"c"], [2.0]]


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (list[str], ["a"], "result 'output': expected a list of 3, one for each item, got 1"),
        (list[str], "abc", "expected a list of str, got str"),
        (Floats, np.zeros(2), "result 'output': expected a batch of 3, got shape [2]"),
        (Floats, 1.0, "expected a batch of 3, got shape []"),
        (list[Found], Found("a", 1), "expected a list of results, got Found"),
    ],
)
def test_a_batch_of_another_size_fails_all(annotation: Any, value: Any, words: str) -> None:
    for outcome in many(annotation, value, [2, 1]):
        assert words in failure(outcome, BackendError)


def test_a_wrong_item_fails_only_its_request() -> None:
    first, second = many(list[str], ["a", 5, "c"], [2, 1])
    assert "result 'output': expected str, got int" in failure(first, BackendError)
    assert outputs(second) == [[b"c"]]


def test_an_error_may_stand_for_an_item() -> None:
    items = [Found("a", 1), inferd.InvalidRequest("too dark"), Found("c", 2)]
    first, second, third = many(list[Found], items, [1, 1, 1])
    assert outputs(first) == [[b"a"], [1.0]]
    assert failure(second, InvalidRequest) == "too dark"
    assert outputs(third) == [[b"c"], [2.0]]


def test_arrays_of_one_batch_need_one_shape() -> None:
    for outcome in many(list[Floats], [np.zeros(1), np.zeros(2)], [1, 1]):
        assert "expected arrays of one shape, got [[1], [2]]" in failure(outcome, BackendError)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=5), st.data())
def test_items_return_to_their_requests(rows: list[int], data: st.DataObject) -> None:
    """Whatever fails on the way in or out, every other item comes back where it belongs."""
    total = sum(rows)
    bad_in = data.draw(st.sets(st.integers(0, total - 1)))
    bad_out = data.draw(st.sets(st.integers(0, total - 1)))

    class Echo(inferd.Model, max_batch_size=100):
        def predict(self, x: list[dict[str, int]], y: npt.NDArray[np.int64]) -> list[int]:
            assert [item["n"] for item in x] == y.tolist()
            return ["bad" if n in bad_out else n for n in y.tolist()]  # type: ignore[misc]

    runtime = loaded(Echo)
    sent = [b"{}x" if n in bad_in else b'{"n":%d}' % n for n in range(total)]
    start = 0
    outcomes = run(runtime, texts(*sent), np.arange(total), rows=rows)
    joined = runtime.run_joined(Call("predict", [texts(*sent), np.arange(total)], rows))
    kept = [r.tolist() for o in outcomes if isinstance(o, list) for r in o[0]]
    assert [array.tolist() for array in joined.arrays] == ([kept] if kept else [])
    for count, outcome in zip(rows, outcomes, strict=True):
        own = range(start, start + count)
        if bad_in & set(own):
            failure(outcome, InvalidRequest)
        elif bad_out & set(own):
            failure(outcome, BackendError)
        else:
            assert outputs(outcome) == [list(own)]
        start += count
