import base64
import json
import math
from typing import Any

import numpy as np
import pytest

from inferd.errors import InvalidRequest
from inferd.protocols.call.codec import CallCodec
from inferd.types.datatype import DATATYPES
from inferd.types.signature import Argument, Form, Signature, tensor_signature
from inferd.types.tensor import Tensor, TensorSpec

PIXEL = b"\x89PNG\r\n\x1a\n-not-really"


def argument(name: str, form: Form = "tensor", datatype: str = "FP32", **more: Any) -> Argument:
    if form in ("bytes", "image", "json"):
        datatype = "BYTES"
    return Argument(name=name, form=form, datatype=datatype, **more)


def codec(
    *inputs: Argument, outputs: tuple[Argument, ...] = (), batched: bool = True, bare: bool = False
) -> CallCodec:
    return CallCodec(Signature(inputs=inputs, outputs=outputs, bare=bare), (), batched)


def decoded(made: CallCodec, arguments: Any) -> tuple[dict[str, Any], bool]:
    body = arguments if isinstance(arguments, bytes) else json.dumps(arguments).encode()
    tensors, single = made.decode(body)
    return {t.name: (t.array.shape, t.array.tolist()) for t in tensors}, single


def refused(made: CallCodec, arguments: Any) -> str:
    with pytest.raises(InvalidRequest) as error:
        decoded(made, arguments)
    return str(error.value)


# -- one item or several ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "value", "expected", "single"),
    [
        ((4,), [1, 2, 3, 4], (1, 4), True),
        ((4,), [[1, 2, 3, 4]], (1, 4), False),
        ((4,), [[1, 2, 3, 4], [5, 6, 7, 8]], (2, 4), False),
        ((-1,), [], (1, 0), True),
        ((-1,), [[1, 2], [3, 4]], (2, 2), False),
        ((2, -1), [[1, 2, 3], [4, 5, 6]], (1, 2, 3), True),
        ((2, -1), [[[1], [2]], [[3], [4]], [[5], [6]]], (3, 2, 1), False),
        ((), 1.5, (1,), True),
        ((), [1.5], (1,), False),
        ((), [1, 2, 3], (3,), False),
        (None, 5, (1,), True),
        (None, [5], (1, 1), True),
        (None, [[5, 6], [7, 8]], (1, 2, 2), True),
    ],
)
def test_a_batched_model_takes_one_item_or_a_list(
    shape: Any, value: Any, expected: tuple[int, ...], single: bool
) -> None:
    made = codec(argument("x", shape=shape))
    found, alone = decoded(made, {"x": value})
    assert found["x"] == (expected, np.array(value, float).reshape(expected).tolist())
    assert alone is single


@pytest.mark.parametrize(
    ("shape", "value", "expected"),
    [((), 3, (1,)), ((2,), [1, 2], (2,)), ((-1, 2), [[1, 2]], (1, 2)), (None, 3, (1,)),
     (None, [[3]], (1, 1))],
)  # fmt: skip
def test_a_model_without_batching_takes_its_tensor_as_it_is(
    shape: Any, value: Any, expected: tuple[int, ...]
) -> None:
    found, single = decoded(codec(argument("x", shape=shape), batched=False), {"x": value})
    assert found["x"][0] == expected
    assert single


def test_a_tensor_without_dimensions_stays_one() -> None:
    spec = TensorSpec("x", DATATYPES["FP32"], ())
    made = CallCodec(tensor_signature((spec,), (), False), (spec,), False)
    assert decoded(made, {"x": 2.5})[0] == {"x": ((), 2.5)}


def test_arguments_must_agree_on_items() -> None:
    made = codec(argument("a", shape=(2,)), argument("b", "value"), argument("c", "json"))
    found, single = decoded(made, {"a": [[1, 2], [3, 4]], "b": [5, 6], "c": [{"k": 1}, None]})
    assert not single
    assert found["c"] == ((2,), [b'{"k": 1}', b"null"])
    message = refused(made, {"a": [[1, 2], [3, 4]], "b": 5, "c": []})
    assert message.startswith("argument 'b' is one item, but argument 'a' is a list of 2 items")
    assert "'b': expected 2 items" in refused(made, {"a": [[1, 2]] * 2, "b": [5], "c": [1, 2]})
    assert "'c': expected a list of 2" in refused(made, {"a": [[1, 2]] * 2, "b": [1, 2], "c": {}})
    assert "'c': expected 2 items" in refused(made, {"a": [[1, 2]] * 2, "b": [1, 2], "c": [1]})


def test_json_alone_is_one_item_even_where_it_is_a_list() -> None:
    found, single = decoded(codec(argument("q", "json")), b'{"q": [1.50, "\\u00e9"]}')
    assert found == {"q": ((1,), [b'[1.50, "\\u00e9"]'])}  # its very text
    assert single


# -- forms -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in DATATYPES if n != "BYTES"])
def test_every_datatype_reads_and_writes(name: str) -> None:
    kind = DATATYPES[name].kind
    values: list[Any] = [True, False] if kind == "bool" else [1, 0] if kind == "int" else [0.5, -2]
    x = argument("x", shape=(2,), datatype=name)
    made = codec(x, outputs=(x,))
    tensors, single = made.decode(json.dumps({"x": values}).encode())
    assert tensors[0].array.dtype == DATATYPES[name].dtype
    assert json.loads(made.encode(tensors, single)) == {"x": values}


def test_bf16_is_rounded_to_the_nearest() -> None:
    made = codec(argument("x", shape=(-1,), datatype="BF16"))
    tensors, _ = made.decode(b'{"x": [1.00390625, 1.01171875, 3.3895e38, NaN, -Infinity]}')
    assert tensors[0].array.tolist() == [[0x3F80, 0x3F82, 0x7F7F, 0x7FC0, 0xFF80]]


def test_texts_are_utf8_and_files_base64() -> None:
    made = codec(argument("t", "value", "BYTES"), argument("b", "bytes"), argument("i", "image"))
    data = base64.b64encode(PIXEL).decode()
    for image in (data, f"data:image/png;base64,{data}", f"data:;base64,{data}"):
        found, _ = decoded(made, {"t": "é", "b": "AAE=", "i": image})
        assert found == {"t": ((1,), ["é".encode()]), "b": ((1,), [b"\0\1"]), "i": ((1,), [PIXEL])}
    found, single = decoded(made, {"t": ["a", "b"], "b": ["", ""], "i": [data, data]})
    assert found["i"] == ((2,), [PIXEL, PIXEL])
    assert not single


@pytest.mark.parametrize(
    ("value", "phrase"),
    [
        (5, "argument 'i': expected a picture file in base64, or as a data: URL, got the number 5"),
        (None, "got null"),
        ("not base64!", "argument 'i': expected a picture"),
        ("AAA", "padding"),
        ("data:text/plain;base64,AAE=", "of type image/*, not text/plain"),
        ("data:image/png,AAE=", "as data:<type>;base64,<data>"),
        (["AAE=", 5], "argument 'i[1]'"),
        ([["AAE="]], "argument 'i'"),
        ("é", "argument 'i'"),
    ],
)
def test_what_is_no_image_file_is_refused(value: Any, phrase: str) -> None:
    assert phrase in refused(codec(argument("i", "image")), {"i": value})


# -- what is wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "datatype", "value", "message"),
    [
        ((4,), "FP32", [1, 2, 3],
         "argument 'x': expected a list of 4 numbers (FP32), got a list of 3"),
        ((4,), "FP32", 5, "argument 'x': expected a list of 4 numbers (FP32), got the number 5"),
        ((4,), "FP32", [1, 2, "3", 4], "argument 'x[2]': expected a number (FP32), got a text"),
        ((4,), "FP32", [1, 2, True, 4], "argument 'x[2]': expected a number (FP32), got true"),
        ((4,), "FP32", [1, None, 3, 4], "argument 'x[1]': expected a number (FP32), got null"),
        ((2,), "INT8", [1, 2.5],
         "argument 'x[1]': expected a whole number (INT8), got the number 2.5"),
        ((2,), "INT8", [1, 128],
         "argument 'x': expected whole numbers from -128 to 127 (INT8)"),
        ((2,), "UINT64", [1, 2**70], "argument 'x[1]': expected a whole number (UINT64)"),
        ((2,), "BOOL", [1, True],
         "argument 'x[0]': expected true or false (BOOL), got the number 1"),
        ((2,), "BYTES", ["a", {}], "argument 'x[1]': expected a text (BYTES), got an object"),
        ((2,), "FP32", [[1, 2], [3]], "argument 'x[1]': expected a list of 2 numbers (FP32)"),
        ((2,), "FP32", [[1, 2], 3], "argument 'x[1]': expected a list of 2 numbers (FP32)"),
        ((-1,), "FP32", [[1, 2], [3]],
         "argument 'x[1]': expected a list of 2 numbers (FP32) as in the lists before it"),
        ((-1, 2), "FP32", [[1, 2], [[3], 4]], "argument 'x[1][0]': expected a number (FP32)"),
        ((), "FP32", {"a": 1}, "argument 'x': expected a number (FP32), got an object"),
        (None, "FP32", [[1, 2], [3]], "argument 'x[1]': expected a list of 2 numbers"),
        (None, "FP32", json.loads("[" * 80 + "]" * 80), "argument 'x': expected at most 64 lists"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_by_its_path(
    shape: Any, datatype: str, value: Any, message: str
) -> None:
    made = codec(argument("x", shape=shape, datatype=datatype))
    assert refused(made, {"x": value}).startswith(message)


@pytest.mark.parametrize(
    ("body", "phrase"),
    [
        (b"", "the body is empty"),
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[1]", 'expected a JSON object of named arguments, {"image": ...}, got a list'),
        (b"4", "got a single value"),
        (b"{}", "argument 'image' is required and missing: A photo"),
        (b'{"imge": 1}', "'imge' is no argument, did you mean this one?"),
        (b'{"image": 1, "imag": 1}', "'imag' is unknown: did you mean 'image'? The model takes"),
        (b'{"image": 1, "zzz": 1}', "argument 'zzz' is unknown: The model takes 'image'"),
        (b'{"image": ' + b"[" * 101 + b"]" * 101 + b"}", "nesting depth"),
        (b'{"image": "\\ud800"}', "the body is not JSON"),
        (
            b'{"image": NaN, "x": "\\ud800"}',
            "the body is not JSON: a text has half of a surrogate pair",
        ),
        (b'{"image": NaN, "x": nope}', "the body is not JSON: Expecting value: line 1 column 21"),
    ],
)
def test_a_wrong_body_is_refused_with_the_fix(body: bytes, phrase: str) -> None:
    assert phrase in refused(codec(argument("image", "value", description="A photo")), body)


def test_what_has_a_default_may_be_left_out_or_null() -> None:
    made = codec(argument("x", "value"), argument("k", "value", "INT32", default="3"))
    assert set(decoded(made, {"x": 1})[0]) == {"x"}
    assert set(decoded(made, {"x": 1, "k": None})[0]) == {"x"}
    assert set(decoded(made, {"x": 1, "k": 5})[0]) == {"x", "k"}
    assert "argument 'x': expected a number" in refused(made, {"x": None})


def test_not_a_number_is_a_number_and_not_json() -> None:
    x = argument("x", shape=(3,))
    made = codec(x, argument("q", "json", default="null"), outputs=(x,))
    tensors, single = made.decode(b'{"x": [NaN, Infinity, -1]}')
    assert np.isnan(tensors[0].array[0, 0])
    assert tensors[0].array[0, 1] == math.inf
    assert made.encode(tensors, single) == b'{"x":[null,null,-1.0]}'
    assert "NaN and Infinity are not" in refused(made, b'{"x": [1,2,3], "q": {"a": NaN}}')


# -- out -------------------------------------------------------------------------------------------


def written(made: CallCodec, *arrays: Any, single: bool = True) -> Any:
    outputs = made.signature.outputs
    tensors = [
        Tensor(o.name, DATATYPES[o.datatype], a) for o, a in zip(outputs, arrays, strict=True)
    ]
    return json.loads(made.encode(tensors, single))


def objects(*values: Any) -> Any:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def test_results_are_written_by_their_forms() -> None:
    made = codec(
        outputs=(
            argument("score", "value"),
            argument("text", "value", "BYTES"),
            argument("file", "bytes"),
            argument("any", "json"),
            argument("words", shape=(2,), datatype="BYTES"),
        )
    )
    words = np.array([[b"a", b"b"], [b"c", b"\xc3\xa9"]], object)
    arrays = (
        np.array([0.1, 2], np.float32), objects(b"x", "y"), objects(b"\0\1", b""),
        objects(b'{"a":[1]}', b"null"), words,
    )  # fmt: skip
    assert written(made, *[a[:1] for a in arrays]) == {
        "score": 0.1, "text": "x", "file": "AAE=", "any": {"a": [1]}, "words": ["a", "b"],
    }  # fmt: skip
    assert written(made, *arrays, single=False) == {
        "score": [0.1, 2], "text": ["x", "y"], "file": ["AAE=", ""], "any": [{"a": [1]}, None],
        "words": [["a", "b"], ["c", "é"]],
    }  # fmt: skip


def test_a_bare_result_is_the_answer_itself() -> None:
    made = codec(outputs=(argument("result", "value", "INT64"),), bare=True)
    assert written(made, np.array([4])) == 4
    assert written(made, np.array([4, 5]), single=False) == [4, 5]
    alone = codec(outputs=(argument("result", "value", "INT64"),), bare=True, batched=False)
    assert written(alone, np.array([4])) == 4


def test_without_batching_an_array_is_written_as_it_is() -> None:
    made = codec(outputs=(argument("y", shape=(2, -1)),), batched=False)
    assert written(made, np.arange(4, dtype=np.float32).reshape(2, 2).T) == {"y": [[0, 2], [1, 3]]}
    assert codec(batched=False).encode([], True) == b"{}"


def test_bytes_that_are_no_text_cannot_be_written_as_text() -> None:
    made = codec(outputs=(argument("t", "value", "BYTES"),))
    with pytest.raises(InvalidRequest, match="result 't' holds bytes that are not UTF-8"):
        written(made, objects(b"\xff"))


@pytest.mark.parametrize("kind", ["q", "l", "Q", "L", "e", "f", "d", "b", "?"])
def test_a_lone_number_is_written_whatever_c_calls_its_type(kind: str) -> None:
    datatype = next(t for t in DATATYPES.values() if t.dtype == np.dtype(kind) and t.name != "BF16")
    made = codec(outputs=(argument("y", "value", datatype.name),))
    tensor = Tensor("y", datatype, np.array([1], kind))
    assert json.loads(made.encode([tensor], True)) == {"y": 1}


@pytest.mark.parametrize(
    ("names", "bare", "text"),
    [
        ("ab", False, b'{"a":1.0,"b":2.0}'), ("b", False, b'{"b":2.0}'), ("", False, b"{}"),
        ("ba", False, b'{"a":1.0,"b":2.0}'), ("", True, b"{}"),
    ],
)  # fmt: skip
def test_a_response_may_have_some_of_the_outputs(names: str, bare: bool, text: bytes) -> None:
    outputs = (argument("a"),) if bare else (argument("a"), argument("b"))
    made = codec(outputs=outputs, bare=bare)
    values = {"a": np.float32([1]), "b": np.float32([2])}
    tensors = [Tensor(name, DATATYPES["FP32"], values[name]) for name in names]
    if names == "ba":
        made = codec(outputs=(*outputs, argument("c")))
    for _ in range(2):
        assert made.encode(tensors, True) == text
