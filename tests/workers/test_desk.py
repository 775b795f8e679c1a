"""What lies on a desk is lent: it is seen of every job what the model has kept of it."""

import os

import numpy as np

from inferd.types.datatype import FP32
from inferd.workers.desk import Desk
from inferd.workers.memory import Window, create_memory, pack
from inferd.workers.messages import Run
from workers.test_jobs import FakeRuntime


def test_each_of_two_jobs_at_a_time_whose_arrays_are_kept_says_so() -> None:
    memory = create_memory()
    desk = Desk(FakeRuntime(), memory)
    large = np.zeros(20_000, np.float32)
    runs = [
        Run(slot, slot, "predict", pack([(FP32, [large])], Window(memory, slot, False)), [1], [""])
        for slot in range(4)
    ]
    kept = [desk.opened(run).inputs for run in runs[:2]]
    assert [desk.kept(run) for run in runs[:2]] == [True, True]
    kept += [desk.opened(run).inputs for run in runs[2:]]  # copies, from now on
    assert [desk.kept(run) for run in runs[2:]] == [False, False]
    os.close(memory)
