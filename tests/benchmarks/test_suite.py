"""What fails is one measurement, and the run goes on."""

import shutil
from pathlib import Path

import pytest
from benchmarks.suite import FAILURES
from benchmarks.worker_memory import measure_workers


def test_workers_that_fail_do_not_end_the_run() -> None:
    fails = shutil.which("false")
    assert fails
    with pytest.raises(FAILURES):
        measure_workers(Path(fails), 1.0)
