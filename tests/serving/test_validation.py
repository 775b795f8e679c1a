import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferd.errors import InvalidRequest
from inferd.serving.validation import RequestValidator
from inferd.types.datatype import BF16, BYTES, FP32, INT32, UINT16, DataType
from inferd.types.inference import InferenceRequest, RequestedOutput
from inferd.types.tensor import LeftOut, Tensor, TensorSpec


def validator(*inputs: TensorSpec, most: int = 8) -> RequestValidator:
    outputs = tuple(TensorSpec(f"OUTPUT{i}", FP32, (-1, 16)) for i in range(2))
    return RequestValidator("m", inputs, outputs, most)


def spec(number: int = 0, *shape: int, datatype: DataType = FP32) -> TensorSpec:
    return TensorSpec(f"INPUT{number}", datatype, shape or (-1, 16))


def tensor(number: int = 0, *shape: int, datatype: DataType = FP32) -> Tensor:
    return Tensor(f"INPUT{number}", datatype, np.zeros(shape or (1, 16), datatype.dtype))


def asking(*tensors: Tensor, **more: object) -> InferenceRequest:
    return InferenceRequest("m", "", list(tensors), **more)  # type: ignore[arg-type]


def refusal(check: RequestValidator, *tensors: Tensor) -> str:
    with pytest.raises(InvalidRequest) as caught:
        check.check(asking(*tensors))
    return str(caught.value)


ONE = validator(spec())
TWO = validator(spec(0), spec(1, -1, -1))


# -- what fits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_a_request_that_fits_has_its_rows_and_arrays(rows: int) -> None:
    sent = tensor(0, rows, 16)
    arrays, found, _ = ONE.check(asking(sent))
    assert found == rows
    assert arrays[0] is sent.array


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2])))
def test_arrays_come_in_the_models_order_whatever_the_requests(order: tuple[int, ...]) -> None:
    check = validator(spec(0), spec(1, -1, -1), spec(2, -1, 2, datatype=BYTES))
    sent = [tensor(0), tensor(1, 1, 5), tensor(2, 1, 2, datatype=BYTES)]
    arrays, rows, key = check.check(asking(*[sent[i] for i in order]))
    assert [a is t.array for a, t in zip(arrays, sent, strict=True)] == [True] * 3
    assert (rows, key) == check.check(asking(*sent))[1:]


def test_a_model_without_batches_has_one_row_of_any_shape() -> None:
    check = validator(spec(0, 2, -1), most=0)
    assert check.check(asking(tensor(0, 2, 100)))[1] == 1


# -- what may share a batch -----------------------------------------------------------------------


def key_of(check: RequestValidator, *tensors: Tensor, **more: object) -> object:
    return check.check(asking(*tensors, **more))[2]


def test_rows_do_not_keep_requests_apart() -> None:
    assert key_of(ONE, tensor(0, 1, 16)) == key_of(ONE, tensor(0, 8, 16))
    one, other = [tensor(0, 1, 16), tensor(1, 1, 4)], [tensor(0, 3, 16), tensor(1, 3, 4)]
    assert key_of(TWO, *one) == key_of(TWO, *other)


def test_ragged_inputs_do_not_keep_requests_apart() -> None:
    specs = spec(0, -1, -1), spec(1, -1, -1)
    check = RequestValidator("m", specs, (), 8, ragged={0})
    one = key_of(check, tensor(0, 1, 3), tensor(1, 1, 4))
    assert one == key_of(check, tensor(0, 2, 9), tensor(1, 2, 4))
    assert one != key_of(check, tensor(0, 1, 3), tensor(1, 1, 5))


def test_free_dimensions_keep_requests_apart() -> None:
    keys = {key_of(TWO, tensor(0), tensor(1, 1, size)) for size in (1, 2, 3)}
    assert len(keys) == 3


def test_sizes_of_different_inputs_are_not_mixed_up() -> None:
    check = validator(spec(0, -1, -1), spec(1, -1, -1))
    first = key_of(check, tensor(0, 1, 2), tensor(1, 1, 3))
    assert first != key_of(check, tensor(0, 1, 3), tensor(1, 1, 2))


PARAMETERS: list[dict[str, object]] = [
    {"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": True}, {"a": 1.0}, {"a": 1, "b": 1},
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations([None, *PARAMETERS], 2)))
@pytest.mark.parametrize("check", [ONE, validator(spec(0, -1, -1))], ids=["fixed", "free"])
def test_parameters_keep_requests_apart(
    check: RequestValidator, first: object, second: object
) -> None:
    assert key_of(check, tensor(), parameters=first) != key_of(check, tensor(), parameters=second)


def test_the_same_parameters_in_another_order_share_a_batch() -> None:
    assert key_of(ONE, tensor(), parameters={"a": 1, "b": "x"}) == key_of(
        ONE, tensor(), parameters={"b": "x", "a": 1}
    )


@settings(derandomize=True, deadline=None)
@given(st.tuples(*[st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))] * 2))
def test_keys_are_equal_exactly_when_the_arrays_can_be_joined(
    both: tuple[tuple[int, int, int], ...],
) -> None:
    check = validator(spec(0, -1, -1, 2), spec(1, -1, -1))
    checked = [check.check(asking(tensor(0, r, a, 2), tensor(1, r, b))) for r, a, b in both]
    (first, _, key), (second, _, other_key) = checked
    joinable = all(x.shape[1:] == y.shape[1:] for x, y in zip(first, second, strict=True))
    assert (key == other_key) == joinable


# -- what does not fit ----------------------------------------------------------------------------


def test_a_wrong_datatype_is_named_as_triton_names_it() -> None:
    expected = "inference input 'INPUT0' data-type is 'INT32', but model 'm' expects 'FP32'"
    assert refusal(ONE, tensor(0, datatype=INT32)) == expected
    assert refusal(TWO, tensor(0, datatype=INT32), tensor(1, 1, 4)) == expected


def test_bf16_and_uint16_are_not_mistaken_for_each_other() -> None:
    check = validator(spec(datatype=BF16))
    assert "'UINT16', but model 'm' expects 'BF16'" in refusal(check, tensor(datatype=UINT16))


@pytest.mark.parametrize(
    ("shape", "got"), [((1, 17), "[1,17]"), ((1, 16, 1), "[1,16,1]"), ((1,), "[1]")]
)
def test_a_wrong_shape_is_named_as_triton_names_it(shape: tuple[int, ...], got: str) -> None:
    assert refusal(ONE, tensor(0, *shape)) == (
        f"unexpected shape for input 'INPUT0' for model 'm'. Expected [-1,16], got {got}"
    )


def test_a_scalar_is_a_wrong_shape_even_where_the_model_has_no_columns() -> None:
    scalar = Tensor("INPUT0", FP32, np.array(1.0, np.float32))
    refusal(ONE, scalar)
    refusal(validator(TensorSpec("INPUT0", FP32, (-1,))), scalar)


@pytest.mark.parametrize("sent", [(0,), (1,), ()])
def test_missing_inputs_are_counted_and_named(sent: tuple[int, ...]) -> None:
    tensors = [tensor(0), tensor(1, 1, 4)]
    message = refusal(TWO, *[tensors[i] for i in sent])
    assert message.startswith(f"expected 2 inputs but got {len(sent)} inputs for model 'm'")
    for number in {0, 1} - set(sent):
        assert f"'INPUT{number}'" in message.partition("missing")[2]


@pytest.mark.parametrize("check", [ONE, TWO])
def test_unknown_and_repeated_inputs_are_named(check: RequestValidator) -> None:
    unknown = Tensor("other", FP32, np.zeros((1, 16), np.float32))
    message = refusal(check, tensor(0), unknown)
    assert message.startswith("unexpected inference input 'other' for model 'm'")
    assert "INPUT0" in message.partition("it has")[2]
    assert refusal(check, tensor(0), tensor(0)) == "input 'INPUT0' already exists in request"


def test_rows_must_be_the_same_in_every_input() -> None:
    message = refusal(TWO, tensor(0, 2, 16), tensor(1, 3, 4))
    assert "input 'INPUT1' batch size does not match other inputs for 'm'" in message


@pytest.mark.parametrize(("check", "inputs"), [(ONE, 1), (TWO, 2)])
def test_rows_are_bounded(check: RequestValidator, inputs: int) -> None:
    def rows(count: int) -> list[Tensor]:
        return [tensor(0, count, 16), tensor(1, count, 4)][:inputs]

    check.check(asking(*rows(8)))
    message = refusal(check, *rows(9))
    assert message.startswith("inference request batch-size must be <= 8 for 'm'")
    assert "batch-size must be >= 1 for 'm'" in refusal(check, *rows(0))


# -- outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [(None, None), ([], None), (["OUTPUT1"], (1,)), (["OUTPUT1", "OUTPUT0"], (1, 0))],
)
def test_outputs_are_found_in_the_order_asked_for(
    names: list[str] | None, expected: tuple[int, ...] | None
) -> None:
    asked = None if names is None else [RequestedOutput(name) for name in names]
    assert ONE.output_indices(asked) == expected


def test_unknown_and_repeated_outputs_are_named() -> None:
    with pytest.raises(InvalidRequest, match="unexpected inference output 'x' for model 'm'"):
        ONE.output_indices([RequestedOutput("x")])
    with pytest.raises(InvalidRequest) as caught:
        ONE.output_indices([RequestedOutput("OUTPUT0"), RequestedOutput("OUTPUT0")])
    assert str(caught.value) == "output 'OUTPUT0' already exists in request"


# -- inputs that may be left out -------------------------------------------------------------------

PAIR = validator(spec(0), TensorSpec("INPUT1", BYTES, (-1,), optional=True), spec(2, -1, -1, 3))


def test_what_is_left_out_has_no_rows_and_no_company() -> None:
    whole = [tensor(0, 2, 16), tensor(1, 2, datatype=BYTES), tensor(2, 2, 5, 3)]
    arrays, rows, key = PAIR.check(asking(*whole))
    assert [a.shape for a in arrays] == [(2, 16), (2,), (2, 5, 3)]
    arrays, again, other = PAIR.check(asking(whole[2], whole[0]))
    assert [a.shape for a in arrays] == [(2, 16), (0,), (2, 5, 3)]
    assert arrays[1].dtype == BYTES.dtype
    assert (rows, again) == (2, 2)
    assert key != other


def test_what_is_sent_though_it_may_be_left_out_must_fit() -> None:
    assert "data-type" in refusal(PAIR, tensor(0), tensor(1, 1), tensor(2, 1, 5, 3))
    assert "batch size" in refusal(
        PAIR, tensor(0, 2, 16), tensor(1, 1, datatype=BYTES), tensor(2, 2, 5, 3)
    )


def test_what_must_be_sent_is_named_and_what_may_be_left_out_is_one_row() -> None:
    assert "missing ['INPUT2']" in refusal(PAIR, tensor(0), tensor(1, 1, datatype=BYTES))
    optional = validator(TensorSpec("INPUT0", FP32, (-1, 16), optional=True))
    (nothing,), rows, _ = optional.check(InferenceRequest("m", "", []))
    assert isinstance(nothing, LeftOut)
    assert rows == 1
