"""Tensors go across as they are, small ones in their message and large ones in shared memory."""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from inferd.types.datatype import BYTES, DATATYPES, FP32
from inferd.types.tensor import Array
from inferd.workers.memory import (
    INLINE_BYTES,
    KEPT_BYTES,
    WINDOW_BYTES,
    Window,
    create_memory,
    pack,
    unpack,
)


@pytest.fixture
def memory() -> Iterator[int]:
    fd = create_memory()
    yield fd
    os.close(fd)


@pytest.mark.parametrize("datatype", [t for t in DATATYPES.values() if t is not BYTES], ids=str)
@pytest.mark.parametrize("elements", [3, 20_000])
def test_every_datatype_crosses(memory: int, datatype: object, elements: int) -> None:
    kind = datatype
    assert kind is not None
    rng = np.random.default_rng(0)
    parts = [
        rng.integers(0, 2, (rows, elements)).astype(kind.dtype)  # type: ignore[attr-defined]
        for rows in (1, 3, 2)
    ]
    here, there = Window(memory, 5, False), Window(memory, 5, False)
    (packed,) = pack([(kind, parts)], here)  # type: ignore[list-item]
    assert isinstance(packed.data, bytes) == (packed.size <= INLINE_BYTES)
    found = unpack(packed, there, copy=False)
    assert found.dtype == parts[0].dtype
    np.testing.assert_array_equal(found, np.concatenate(parts))


@given(st.lists(arrays.arrays(np.object_, 3, elements=st.binary(max_size=40_000)), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_texts_cross(memory: int, parts: list[Array]) -> None:
    here, there = Window(memory, 0, True), Window(memory, 0, True)
    (packed,) = pack([(BYTES, parts)], here)
    found = unpack(packed, there, copy=False)
    assert found.tolist() == np.concatenate(parts).tolist()


def test_a_view_is_of_the_shared_memory_and_a_copy_is_not(memory: int) -> None:
    here, there = Window(memory, 0, False), Window(memory, 0, False)
    large = np.arange(1 << 16, dtype=np.float32)
    (packed,) = pack([(FP32, [large])], here)
    view, copy = unpack(packed, there, copy=False), unpack(packed, there, copy=True)
    pack([(FP32, [large + 1])], here)
    np.testing.assert_array_equal(view, large + 1)
    np.testing.assert_array_equal(copy, large)


def test_windows_do_not_meet_and_grow(memory: int) -> None:
    large = np.zeros(1 << 20, np.float32)
    windows = [Window(memory, slot, outward) for slot in (0, 1) for outward in (False, True)]
    packed = [pack([(FP32, [large + number])], window) for number, window in enumerate(windows)]
    for number, ((one,), window) in enumerate(zip(packed, windows, strict=True)):
        assert float(unpack(one, window, copy=True)[-1]) == number
    (grown,) = pack([(FP32, [large] * 5)], windows[0])
    assert unpack(grown, windows[0], copy=True).shape == (5 << 20,)


def test_a_large_window_gives_its_pages_back(memory: int) -> None:
    window = Window(memory, 0, False)
    pack([(FP32, [np.ones(KEPT_BYTES // 2, np.float32)])], window)
    used = os.fstat(memory).st_blocks
    window.trim()
    assert used * 512 >= KEPT_BYTES
    assert os.fstat(memory).st_blocks == 0


def test_a_batch_that_is_too_large_is_refused(memory: int) -> None:
    with pytest.raises(MemoryError, match="more than"):
        Window(memory, 0, False).reserve(WINDOW_BYTES + 1)
