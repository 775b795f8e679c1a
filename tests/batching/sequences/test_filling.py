import numpy as np
import pytest

from batching.sequences.asking import item_of
from inferd.batching.sequences.filling import VIEW_LIMIT_BYTES, Filling, State
from inferd.batching.sequences.sequence import Sequence
from inferd.config.sequence_tensors import Control
from inferd.types.datatype import BOOL, BYTES, FP32, INT32, INT64, UINT64
from inferd.types.tensor import Array, TensorSpec


def running(id: int | str, filling: Filling, value: float = 0.0, **flags: bool) -> Sequence:
    sequence = Sequence(id)
    sequence.running = item_of(id, value=value, **flags)
    sequence.corrid = filling.corrid(id, "m")
    return sequence


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (Control("START", "c", INT32, -5, 7), [7, -5, -5]),
        (Control("END", "c", BOOL, True, False), [True, True, False]),
        (Control("READY", "c", FP32, 0.5, 2), [2, 0.5, 2]),
        (Control("CORRID", "c", UINT64), [2**64 - 1, 0, 3]),
        (Control("CORRID", "c", INT32), [-1, 0, 3]),
        (Control("CORRID", "c", INT64), [-1, 0, 3]),
        (Control("CORRID", "c", BYTES), [b"18446744073709551615", b"", b"3"]),
    ],
)
def test_every_control_in_every_type(control: Control, expected: list[object]) -> None:
    filling = Filling((control,))
    first = running(2**64 - 1, filling, start=True)
    last = running(3, filling, end=True)
    columns = filling.columns([first, None, last])
    (array,) = columns[-1]
    assert array.dtype == control.datatype.dtype
    assert array.tolist() == [[value] for value in expected]


def test_a_text_as_id_is_told_as_it_is() -> None:
    filling = Filling((Control("CORRID", "c", BYTES),))
    (array,) = filling.columns([running("ünit", filling)])[-1]
    assert array.tolist() == [["ünit".encode()]]


def test_without_batches_nothing_has_a_batch_dimension() -> None:
    spec = TensorSpec("s", FP32, (2,))
    filling = Filling(
        (Control("START", "c", INT32),), (State(np.zeros(2, np.float32), 0, spec),), batched=False
    )
    sequence = running(1, filling, start=True)
    columns = filling.columns([sequence])
    assert [column[0].shape for column in columns] == [(1, 1), (1,), (2,)]
    given = np.array([3, 4], np.float32)
    filling.keep([sequence], [[given]], [given])
    sequence.running = item_of(1)
    assert filling.columns([sequence])[-1][0] is given


def test_a_row_without_a_request_is_as_large_as_another_and_empty() -> None:
    filling = Filling()
    sequence = running(1, filling, value=5)
    assert sequence.running is not None
    sequence.running.arrays.append(np.array([[b"text"]], object))
    values, texts = filling.columns([None, sequence])
    assert np.concatenate(values).tolist() == [[0], [5]]
    assert np.concatenate(texts).tolist() == [[b""], [b"text"]]


def kept_of(rows: int, columns: int) -> tuple[list[Sequence], Array]:
    spec = TensorSpec("s", FP32, (-1, columns))
    filling = Filling((), (State(np.zeros((1, columns), np.float32), 0, spec),))
    sequences = [running(id + 1, filling) for id in range(rows)]
    whole = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    filling.keep(list(sequences), [[whole[i : i + 1]] for i in range(rows)], [whole])
    for row, sequence in enumerate(reversed(sequences)):
        state = filling.columns([sequence])[-1][0]
        assert state.tolist() == whole[rows - 1 - row : rows - row].tolist()
    return sequences, whole


def test_small_states_are_views_and_large_ones_do_not_hold_their_neighbours() -> None:
    sequences, whole = kept_of(4, 8)
    assert all(s.states is not None and s.states[0] is whole for s in sequences)
    sequences, whole = kept_of(2, VIEW_LIMIT_BYTES // 4)
    assert all(s.states is not None and s.states[0].base is None for s in sequences)
    (alone,), whole = kept_of(1, VIEW_LIMIT_BYTES)
    assert alone.states is not None
    assert alone.states[0] is whole


def test_states_of_different_sizes_do_not_share_a_batch() -> None:
    spec = TensorSpec("s", FP32, (-1, -1))
    filling = Filling((), (State(np.zeros((1, 1), np.float32), 0, spec),))
    keys = []
    for size in (2, 3, 2):
        sequence = running(size, filling)
        grown = np.zeros((1, size), np.float32)
        filling.keep([sequence], [[grown]], [grown])
        sequence.waiting.append(item_of(size))
        keys.append(filling.shapes(sequence))
    assert keys[0] == keys[2] != keys[1]
