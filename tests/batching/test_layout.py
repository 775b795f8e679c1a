"""What a model is given of a batch, and what of its outputs each request gets, beside arrays that
were written out by hand from Triton's documentation: the user guide on ragged batching, and the
comments on BatchInput, BatchOutput and ModelTensorReshape in model_config.proto."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.requests import queued
from inferd.batching.batch import LaidOutBatch
from inferd.batching.layout import (
    MAKERS,
    BatchLayout,
    InputLayout,
    MadeInput,
    OutputLayout,
    filled,
)
from inferd.errors import BackendError
from inferd.types.datatype import FP32
from inferd.types.tensor import Array, LeftOut, TensorSpec, left_out

RAGGED = InputLayout((-1,), ragged=True)
BY_ROWS = OutputLayout("y")


def counted(*shape: int, start: int = 0) -> Array:
    """Numbers from `start` on."""
    size = int(np.prod(shape))
    return np.arange(start, start + size, dtype=np.float32).reshape(shape)


def made(kind: str, *shapes: tuple[int, ...], datatype: str = "INT32") -> Array:
    """The input of a kind that is made of requests of such shapes."""
    layout = BatchLayout(True, (RAGGED,), (MadeInput(kind, datatype, 0),), ())
    _, array = layout.merge([[counted(*shape)] for shape in shapes])
    return array


def written(*values: object, datatype: str = "int32") -> tuple[object, ...]:
    array = np.array(values, datatype)
    return array.dtype, array.shape, array.tolist()


def seen(array: Array) -> tuple[object, ...]:
    return array.dtype, array.shape, array.tolist()


# -- what is made of a batch ----------------------------------------------------------------------


def test_the_example_of_the_user_guide() -> None:
    """Requests of shapes [1, 3], [1, 4], [1, 5]: INPUT is [12], INDEX [3, 7, 12] as TYPE_FP32."""
    index = MadeInput("BATCH_ACCUMULATED_ELEMENT_COUNT", "FP32", 0)
    layout = BatchLayout(True, (RAGGED,), (index,), ())
    requests = [[counted(1, 3)], [counted(1, 4, start=3)], [counted(1, 5, start=7)]]
    whole, ends = layout.merge(requests)
    assert seen(whole) == seen(counted(12))
    assert seen(ends) == written(3, 7, 12, datatype="float32")


def test_element_counts_are_one_for_each_request() -> None:
    assert seen(made("BATCH_ELEMENT_COUNT", (1, 3), (1, 4), (2, 5))) == written(3, 4, 10)


def test_accumulated_counts_are_those_of_the_requests_until_then() -> None:
    """Two requests of 2 elements each: 2 for the first, 4 for the second."""
    kind = "BATCH_ACCUMULATED_ELEMENT_COUNT"
    assert seen(made(kind, (1, 2), (1, 2))) == written(2, 4)


def test_accumulated_counts_with_zero_have_one_more_for_the_first() -> None:
    kind = "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO"
    assert seen(made(kind, (1, 2), (1, 2))) == written(0, 2, 4)
    assert seen(made(kind, (1, 3), datatype="FP32")) == written(0, 3, datatype="float32")


def test_the_largest_count_is_told_by_the_shape_alone() -> None:
    found = made("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", (1, 3), (1, 7), (1, 5))
    assert (found.shape, found.dtype) == ((7,), np.int32)


def test_item_shapes_are_one_for_each_row() -> None:
    """A request of two rows of shape [3, 1] beside one of one row of shape [2, 2]."""
    found = made("BATCH_ITEM_SHAPE", (2, 3, 1), (1, 2, 2))
    assert seen(found) == written([3, 1], [3, 1], [2, 2])


def test_flat_item_shapes_are_the_same_in_one_dimension() -> None:
    found = made("BATCH_ITEM_SHAPE_FLATTEN", (2, 3, 1), (1, 2, 2))
    assert seen(found) == written(3, 1, 3, 1, 2, 2)


def test_requests_without_elements_count_as_none() -> None:
    assert seen(made("BATCH_ELEMENT_COUNT", (1, 0), (1, 2))) == written(0, 2)
    assert made("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", (1, 0)).shape == (0,)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("datatype", ["INT32", "FP32"])
def test_what_is_made_has_the_datatype_that_was_asked_for(kind: str, datatype: str) -> None:
    assert made(kind, (1, 2), (1, 3), datatype=datatype).dtype == {
        "INT32": np.int32, "FP32": np.float32,
    }[datatype]  # fmt: skip


def test_a_count_that_int32_does_not_hold_is_an_error() -> None:
    with pytest.raises(OverflowError):
        MAKERS["BATCH_ACCUMULATED_ELEMENT_COUNT"]([(1 << 16, 1 << 16)], np.dtype(np.int32))


def test_a_request_alone_is_flattened_too() -> None:
    (merged,) = BatchLayout(True, (RAGGED,), (), ()).merge([[counted(2, 3)]])
    assert seen(merged) == seen(counted(6))


def test_inputs_that_are_not_ragged_are_joined_by_rows() -> None:
    layout = BatchLayout(True, (RAGGED, InputLayout((2,))), (), ())
    ragged, plain = layout.merge([[counted(1, 3), counted(1, 2)], [counted(2, 1), counted(2, 2)]])
    assert ragged.shape == (5,)
    assert seen(plain) == seen(np.array([[0, 1], [0, 1], [2, 3]], np.float32))


def test_strings_stand_behind_one_another_too() -> None:
    texts = [[np.array([[b"a", b""]], object)], [np.array([[b"\x00c"]], object)]]
    (merged,) = BatchLayout(True, (RAGGED,), (), ()).merge(texts)
    assert merged.tolist() == [b"a", b"", b"\x00c"]


# -- what is cut by shapes ------------------------------------------------------------------------


def test_an_output_is_cut_by_the_shapes_of_its_source() -> None:
    """The dynamic dimension of the output is that of the input."""
    layout = BatchLayout(True, (RAGGED,), (), (OutputLayout("y", (-1,), source=0),))
    requests = [[counted(1, 3)], [counted(2, 1)], [counted(1, 2)]]
    parts = layout.split([counted(7)], requests, [1, 2, 1])
    assert [part[0].tolist() for part in parts] == [[[0, 1, 2]], [[3], [4]], [[5, 6]]]


def test_fixed_dimensions_of_such_an_output_are_its_own() -> None:
    layout = BatchLayout(True, (RAGGED,), (), (OutputLayout("y", (-1, 2), source=0),))
    parts = layout.split([counted(5, 2)], [[counted(1, 3)], [counted(1, 2)]], [1, 1])
    assert [part[0].shape for part in parts] == [(1, 3, 2), (1, 2, 2)]
    assert parts[1][0].tolist() == [[[6, 7], [8, 9]]]


def test_outputs_by_rows_and_by_shapes_stand_beside_each_other() -> None:
    outputs = (BY_ROWS, OutputLayout("z", (-1,), source=0))
    layout = BatchLayout(True, (RAGGED,), (), outputs)
    requests = [[counted(1, 3)], [counted(1, 1)]]
    parts = layout.split([counted(2, 5), counted(4)], requests, [1, 1])
    assert [[array.shape for array in part] for part in parts] == [
        [(1, 5), (1, 3)],
        [(1, 5), (1, 1)],
    ]
    assert all(array.base is not None for part in parts for array in part), "views, not copies"


@pytest.mark.parametrize("size", [0, 3, 5])
def test_an_output_of_another_size_than_its_source_says_so(size: int) -> None:
    layout = BatchLayout(True, (RAGGED,), (), (OutputLayout("y", (-1,), source=0),))
    with pytest.raises(BackendError, match=rf"{size} elements in output 'y'.*requests: 4"):
        layout.split([counted(size)], [[counted(1, 3)], [counted(1, 1)]], [1, 1])


@pytest.mark.parametrize("count", [1, 2])
def test_an_output_without_rows_names_the_way_out(count: int) -> None:
    """For a request alone, too, which would else be answered with it."""
    layout = BatchLayout(True, (RAGGED,), (), (BY_ROWS,))
    requests = [[counted(1, 3)] for _ in range(count)]
    with pytest.raises(BackendError, match=r"output 'y'.*name it in batch_output"):
        layout.split([counted(3 * count)], requests, [1] * count)


# -- reshape --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "known", "sizes", "found"),
    [
        ((), (1,), (1,), ()),
        ((4,), (2, 2), (2, 2), (4,)),
        ((8, -1, 1, 6), (2, 4, -1, 6), (2, 4, 3, 6), (8, 3, 1, 6)),
        ((-1, 4, -1), (-1, 2, 2, -1), (5, 2, 2, 7), (5, 4, 7)),
        ((-1,), (-1,), (0,), (0,)),
    ],
)
def test_free_sizes_are_matched_in_order(
    wanted: tuple[int, ...], known: tuple[int, ...], sizes: tuple[int, ...], found: tuple[int, ...]
) -> None:
    assert filled(wanted, known, sizes) == found


def test_rows_have_the_models_shape_on_the_way_in_and_the_clients_on_the_way_out() -> None:
    layout = BatchLayout(
        True, (InputLayout((2, -1), (2, -1, 1)),), (), (OutputLayout("y", (1, -1), (-1,)),)
    )
    (merged,) = layout.merge([[counted(1, 2, 3)], [counted(2, 2, 3)]])
    assert merged.shape == (3, 2, 3, 1)
    parts = layout.split([counted(3, 4)], [[], []], [1, 2])
    assert [part[0].shape for part in parts] == [(1, 1, 4), (2, 1, 4)]


def test_a_model_without_the_dimension_that_clients_must_have() -> None:
    """The model has [batch]; dims cannot be empty in Triton, so clients send [batch, 1]."""
    layout = BatchLayout(True, (InputLayout((1,), ()),), (), (OutputLayout("y", (1,), ()),))
    (merged,) = layout.merge([[counted(1, 1)], [counted(2, 1)]])
    assert merged.shape == (3,)
    parts = layout.split([merged], [[], []], [1, 2])
    assert [part[0].shape for part in parts] == [(1, 1), (2, 1)]


def test_without_batching_the_whole_shape_is_reshaped() -> None:
    layout = BatchLayout(False, (InputLayout((2, 2), (4,)),), (), (OutputLayout("y", (1,), ()),))
    (merged,) = layout.merge([[counted(2, 2)]])
    assert merged.shape == (4,)
    assert layout.split([np.float32(3).reshape(())], [[]], [1])[0][0].shape == (1,)


def test_shapes_that_are_told_of_an_input_are_the_models() -> None:
    item = MadeInput("BATCH_ITEM_SHAPE", "INT32", 0)
    ragged = InputLayout((-1,), (-1, 1), ragged=True)
    output = OutputLayout("y", (-1,), (-1, 1), source=0)
    layout = BatchLayout(True, (ragged,), (item,), (output,))
    requests = [[counted(1, 3)], [counted(1, 2)]]
    whole, shapes = layout.merge(requests)
    assert whole.shape == (5,)
    assert seen(shapes) == written([3, 1], [2, 1])
    parts = layout.split([counted(5)], requests, [1, 1])
    assert [part[0].tolist() for part in parts] == [[[0, 1, 2]], [[3, 4]]]


def test_an_output_that_is_not_as_its_reshape_says_is_named() -> None:
    layout = BatchLayout(True, (), (), (OutputLayout("y", (4,), (2, 2)),))
    with pytest.raises(BackendError, match=r"\[5\] in output 'y'.*\[2, 2\]"):
        layout.split([counted(1, 5)], [[]], [1])


def test_an_output_may_have_the_clients_shape_already() -> None:
    layout = BatchLayout(True, (), (), (OutputLayout("y", (4,), (2, 2)),))
    assert layout.split([counted(1, 4)], [[]], [1])[0][0].tolist() == [[0, 1, 2, 3]]


def test_what_was_left_out_stays_left_out() -> None:
    layout = BatchLayout(True, (RAGGED, InputLayout((2,), (1, 2))), (), ())
    absent = left_out(TensorSpec("x", FP32, (-1, 2)))
    _, merged = layout.merge([[counted(1, 1), absent], [counted(1, 3), absent]])
    assert isinstance(merged, LeftOut)


# -- batches --------------------------------------------------------------------------------------

SCATTERED = BatchLayout(
    True, (RAGGED,), (MadeInput("BATCH_ELEMENT_COUNT", "INT32", 0),),
    (OutputLayout("y", (-1,), source=0),),
)  # fmt: skip


def batch_of(*widths: int) -> LaidOutBatch:
    items = [queued(1, value=float(place + 1)) for place in range(len(widths))]
    for item, width in zip(items, widths, strict=True):
        item.arrays = [np.full((1, width), float(item.request.id), np.float32)]
    return LaidOutBatch(SCATTERED, items, len(items))


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_each_request_of_a_batch_gets_its_own_elements(widths: list[int]) -> None:
    batch = batch_of(*widths)
    whole, counts = batch.merge()
    assert counts.tolist() == widths
    for item, part in zip(batch.items, batch.split([whole]), strict=True):
        assert np.array_equal(part[0], item.arrays[0])


def test_halves_and_singles_are_laid_out_as_well() -> None:
    batch = batch_of(3, 1, 2)
    halves, singles = batch.halves(), batch.singles()
    assert [half.merge()[1].tolist() for half in halves] == [[3], [1, 2]]
    assert [single.merge()[1].tolist() for single in singles] == [[3], [1], [2]]
    assert all(single.secluded and single.rows == 1 for single in singles)
    assert [part[0].tolist() for part in halves[1].split([counted(3)])] == [[[0]], [[1, 2]]]


def test_columns_are_the_parts_of_what_is_merged() -> None:
    batch = batch_of(2, 1)
    assert [[part.tolist() for part in column] for column in batch.columns()] == [
        [[1, 1], [2]], [[2, 1]],
    ]  # fmt: skip
    assert np.shares_memory(batch.columns()[0][0], batch.items[0].arrays[0])


def test_a_layout_is_by_rows_where_it_is_all_one_to_the_model() -> None:
    reshaped = BatchLayout(True, (InputLayout((1,), ()),), (), (OutputLayout("y", (1,), ()),))
    assert reshaped.by_rows
    assert not SCATTERED.by_rows
    for other in (
        msgspec.structs.replace(reshaped, inputs=(RAGGED,)),
        msgspec.structs.replace(reshaped, made=SCATTERED.made),
        msgspec.structs.replace(reshaped, outputs=SCATTERED.outputs),
    ):
        assert not other.by_rows
