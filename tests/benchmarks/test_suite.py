"""What fails is one measurement or one peer, and the run goes on."""

import shutil
import sys
from pathlib import Path

import pytest
from benchmarks.suite import FAILURES, Options, Suite
from benchmarks.worker_memory import measure_workers
from rich.console import Console


def test_workers_that_fail_do_not_end_the_run() -> None:
    fails = shutil.which("false")
    assert fails
    with pytest.raises(FAILURES):
        measure_workers(Path(fails), 1.0)


def test_a_peer_that_cannot_be_installed_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "venvs").write_text("where environments would be")
    options = Options(("inferd", "triton"), ("grpc-mlp",), (1,), rounds=1, seconds=1.0)
    with Console(record=True, quiet=True) as console:
        suite = Suite(options, tmp_path, Path(sys.executable), console)
    assert list(suite.pythons) == ["inferd"]
