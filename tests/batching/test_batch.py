import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batching.requests import queued
from inferd.batching.batch import Batch
from inferd.errors import BackendError
from inferd.types.datatype import FP32
from inferd.types.tensor import LeftOut, TensorSpec, left_out


def batch_of(*rows: int) -> Batch:
    items = [queued(count, value=float(number + 1)) for number, count in enumerate(rows)]
    return Batch(items, sum(rows))


def test_merge_joins_along_the_first_dimension_in_order() -> None:
    (merged,) = batch_of(1, 3, 2).merge()
    assert merged.shape == (6, 2)
    assert merged[:, 0].tolist() == [1, 2, 2, 2, 3, 3]


def test_merge_keeps_the_inputs_apart() -> None:
    batch = batch_of(1, 2)
    for item in batch.items:
        item.arrays = [item.arrays[0], np.full(item.rows, item.rows, np.int64)]
    first, second = batch.merge()
    assert first.shape == (3, 2)
    assert second.tolist() == [1, 2, 2]
    assert second.dtype == np.int64


def test_merge_of_bytes_keeps_every_element() -> None:
    batch = batch_of(1, 1)
    batch.items[0].arrays = [np.array([[b"", b"\x00"]], object)]
    batch.items[1].arrays = [np.array([[b"long" * 9, b"x"]], object)]
    assert batch.merge()[0].tolist() == [[b"", b"\x00"], [b"long" * 9, b"x"]]


def test_inputs_that_all_requests_left_out_are_left_out_of_the_batch() -> None:
    batch = batch_of(1, 1)
    for item in batch.items:
        item.arrays = [*item.arrays, left_out(TensorSpec("z", FP32, (-1, 2)))]
    merged, absent = batch.merge()
    assert merged.shape == (2, 2)
    assert isinstance(absent, LeftOut)
    assert not isinstance(merged, LeftOut)


def test_a_request_alone_is_not_copied() -> None:
    batch = batch_of(3)
    assert batch.merge()[0] is batch.items[0].arrays[0]


def test_split_gives_each_request_its_own_rows() -> None:
    batch = batch_of(1, 3, 2)
    outputs = [np.arange(6).reshape(6, 1), np.arange(6) * 10]
    parts = batch.split(outputs)
    assert [part[0].ravel().tolist() for part in parts] == [[0], [1, 2, 3], [4, 5]]
    assert [part[1].tolist() for part in parts] == [[0], [10, 20, 30], [40, 50]]
    assert all(part[0].base is not None for part in parts), "views, not copies"


def test_split_of_a_request_alone_takes_outputs_of_any_shape() -> None:
    outputs = [np.array(3.0), np.zeros((7, 2))]
    assert batch_of(1).split(outputs) == [outputs]


@pytest.mark.parametrize("shape", [(), (2,), (4,), (1, 3), (0,)])
def test_split_refuses_outputs_that_do_not_keep_the_rows(shape: tuple[int, ...]) -> None:
    with pytest.raises(BackendError, match=r"output 1 .* batch of 3.*max_batch_size: 0"):
        batch_of(1, 2).split([np.zeros((3, 1)), np.zeros(shape)])


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_split_undoes_merge(rows: list[int]) -> None:
    batch = batch_of(*rows)
    parts = batch.split(batch.merge())
    for item, part in zip(batch.items, parts, strict=True):
        assert np.array_equal(part[0], item.arrays[0])


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=12))
def test_halves_hold_every_request_once_in_order_and_are_smaller(rows: list[int]) -> None:
    batch = batch_of(*rows)
    halves = batch.halves()
    assert [item for half in halves for item in half.items] == batch.items
    assert all(0 < len(half.items) < len(batch.items) for half in halves)
    assert all(half.rows == sum(item.rows for item in half.items) for half in halves)
