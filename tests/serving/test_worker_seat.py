"""The memory of a worker's slots: who has it, and when it is free again."""

import os
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from batching.requests import queued
from fakes import on_loop
from inferd.batching.batch import Batch
from inferd.serving.worker_seat import LENT_BYTES, MOST_LENT, NO_SLOT, Job, Seat
from inferd.types.datatype import BYTES, FP32
from inferd.types.tensor import Array
from inferd.workers.memory import Window, create_memory, pack
from inferd.workers.messages import Done

LARGE = np.arange(LENT_BYTES // 4 + 1, dtype=np.float32)


class Memory:
    """The half of a worker that a seat asks for memory."""

    def __init__(self) -> None:
        self.fd = create_memory()
        self.windows_of: dict[int, tuple[Window, Window]] = {}

    def windows(self, slot: int) -> tuple[Window, Window]:
        made = Window(self.fd, slot, False), Window(self.fd, slot, True)
        return self.windows_of.setdefault(slot, made)


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    yield made
    os.close(made.fd)


def seated(memory: Memory) -> Seat:
    seat = Seat(cast(Any, None), lambda *_: None, lambda *_: None)
    seat.worker = cast(Any, memory)
    return seat


def job(seat: Seat, number: int = 1) -> Job:
    made = seat.jobs[number] = Job(number, Batch([queued()], 1), lambda *_: None)
    made.slot = seat.take_slot()
    return made


def told(memory: Memory, of: Job, *arrays: Array, kept: bool = False) -> Done:
    """What the worker says of a job that gave these."""
    outward = Window(memory.fd, of.slot, True)
    kinds = [BYTES if array.dtype.hasobject else FP32 for array in arrays]
    columns = [(kind, [array]) for kind, array in zip(kinds, arrays, strict=True)]
    return Done(of.number, pack(columns, outward), {}, kept=kept)


@on_loop
async def test_large_outputs_are_not_copied_and_lend_their_slot(memory: Memory) -> None:
    seat = seated(memory)
    first = job(seat)
    slot = first.slot
    one, two, small, texts = seat.outputs(
        first, told(memory, first, LARGE, LARGE + 1, LARGE[:9], np.array([b"a", b"bc"], object))
    )
    seat.free(first)
    there = np.frombuffer(memory.windows(slot)[1].map, np.uint8)
    assert np.shares_memory(one, there)
    np.testing.assert_array_equal(one, LARGE)
    assert texts.tolist() == [b"a", b"bc"]
    assert small.flags.owndata  # who keeps it keeps no more than that
    second = job(seat, 2)
    assert second.slot != slot
    seat.free(second)
    last = two[-1:]
    del one, two
    assert job(seat, 3).slot == second.slot  # part of it is still held
    assert float(last[0]) == float(LARGE[-1] + 1)
    del last
    assert job(seat, 4).slot == slot


@on_loop
async def test_what_the_model_keeps_is_not_used_again(memory: Memory) -> None:
    seat = seated(memory)
    first = job(seat)
    slot = first.slot
    seat.outputs(first, told(memory, first, LARGE, kept=True))
    seat.free(first)
    assert [job(seat, number).slot for number in (2, 3)] == [slot + 1, slot + 2]


@on_loop
async def test_small_outputs_are_copied(memory: Memory) -> None:
    seat = seated(memory)
    first = job(seat)
    slot = first.slot
    (small,) = seat.outputs(first, told(memory, first, LARGE[: LENT_BYTES // 8]))
    assert small.flags.owndata
    assert first.slot == slot


@on_loop
async def test_where_many_slots_are_lent_outputs_are_copied(memory: Memory) -> None:
    seat = seated(memory)
    held = []
    for number in range(MOST_LENT):
        held.append(job(seat, number))
        held[-1].slot = NO_SLOT  # lent
        seat.free(held[-1])
    late = job(seat)
    (copy,) = seat.outputs(late, told(memory, late, LARGE))
    assert copy.flags.owndata
    np.testing.assert_array_equal(copy, LARGE)


@on_loop
async def test_many_free_slots_keep_no_memory(memory: Memory) -> None:
    seat = seated(memory)
    jobs = [job(seat, number) for number in range(20)]
    for each in jobs:
        pack([(FP32, [LARGE])], memory.windows(each.slot)[0])
    used = os.fstat(memory.fd).st_blocks
    lent = []
    for each in jobs:
        lent.append(seat.outputs(each, told(memory, each, LARGE)))
        seat.free(each)
    lent.clear()
    assert os.fstat(memory.fd).st_blocks <= used // 2


@on_loop
async def test_what_an_earlier_worker_lent_is_no_slot_of_the_next_one(memory: Memory) -> None:
    seat = seated(memory)
    first = job(seat)
    lent = seat.outputs(first, told(memory, first, LARGE))
    seat.free(first)
    seat.forget_slots()
    one = job(seat, 2)
    lent.clear()
    assert [one.slot, job(seat, 3).slot] == [0, 1]
