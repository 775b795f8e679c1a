"""Whatever can change an answer changes the key, and nothing else does."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.caching.key import request_key
from inferd.types.datatype import BF16, BYTES, DATATYPES, FP32, UINT16
from inferd.types.inference import InferenceRequest, RequestedOutput
from inferd.types.tensor import Array, TensorSpec, left_out

ROW = np.arange(4, dtype=np.float32).reshape(1, 4)


def key(
    identity: bytes = b"m1", array: Array = ROW, name: str = "x", datatype: Any = FP32,
    more: tuple[tuple[TensorSpec, Array], ...] = (), **request: Any,
) -> bytes:  # fmt: skip
    pairs = [(TensorSpec(name, datatype, array.shape), array), *more]
    asked = InferenceRequest("m", "", [], **request)
    return request_key(identity, asked, [spec for spec, _ in pairs], [array for _, array in pairs])


def texts(*elements: bytes, shape: tuple[int, ...] = (-1,)) -> Array:
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)


OPTIONAL = TensorSpec("z", FP32, (-1, 4), True)

DIFFERENT = {
    "": {},
    "the model, or how it is loaded": {"identity": b"m2"},
    "an element": {"array": ROW + 1},
    "the sign of zero": {"array": ROW * np.float32(-1.0) * 0},
    "zeros": {"array": ROW * 0},
    "the shape": {"array": ROW.reshape(4, 1)},
    "the shape, flat": {"array": ROW.reshape(4)},
    "the datatype": {"array": ROW.view(np.int32), "datatype": DATATYPES["INT32"]},
    "the input's name": {"name": "w"},
    "another input": {"more": ((OPTIONAL, ROW),)},
    "another input without rows": {"more": ((OPTIONAL, ROW[:0]),)},
    "another input that is left out": {"more": ((OPTIONAL, left_out(OPTIONAL)),)},
    "a parameter": {"parameters": {"p": 1}},
    "a parameter's name": {"parameters": {"q": 1}},
    "a parameter's type": {"parameters": {"p": True}},
    "a parameter's other type": {"parameters": {"p": 1.0}},
    "a parameter that is text": {"parameters": {"p": "1"}},
    "two parameters": {"parameters": {"p": 1, "q": 1}},
    "an output": {"outputs": [RequestedOutput("y")]},
    "outputs": {"outputs": [RequestedOutput("y"), RequestedOutput("z")]},
    "outputs in another order": {"outputs": [RequestedOutput("z"), RequestedOutput("y")]},
    "the method": {"method": "explain"},
    "the session": {"session": "s"},
}


def test_each_thing_that_changes_the_answer_changes_the_key() -> None:
    keys: dict[bytes, str] = {}
    for what, given_ in DIFFERENT.items():
        found = key(**given_)  # type: ignore[arg-type]
        assert found not in keys, f"{what} has the key of {keys[found]}"
        keys[found] = what
        assert len(found) == 32


@pytest.mark.parametrize(
    "request_", [{"id": "7"}, {"timeout_us": 5}, {"deadline_ns": 5}, {"priority": 2}]
)
def test_what_does_not_change_the_answer_is_no_part_of_it(request_: dict[str, Any]) -> None:
    assert key(**request_) == key()


def test_parameters_have_no_order() -> None:
    assert key(parameters={"a": 1, "b": 2}) == key(parameters={"b": 2, "a": 1})


def test_memory_order_does_not_matter_and_what_it_holds_does() -> None:
    square = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert key(array=np.asfortranarray(square)) == key(array=square)
    assert key(array=square.T) != key(array=square)


def test_bits_of_two_datatypes_are_two_inputs() -> None:
    bits = np.array([[1, 2]], np.uint16)
    assert key(array=bits, datatype=BF16) != key(array=bits, datatype=UINT16)


@given(st.lists(st.binary(max_size=3), min_size=1, max_size=4), st.data())
def test_texts_are_told_apart_wherever_one_ends(elements: list[bytes], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.binary(max_size=3), min_size=1, max_size=4))
    same = key(array=texts(*elements), datatype=BYTES) == key(array=texts(*others), datatype=BYTES)
    assert same is (elements == others)
