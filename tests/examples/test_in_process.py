"""The example of a model in one's own process."""

import subprocess
import sys
from pathlib import Path

from lifecycle.process import environment

FOLDER = Path(__file__).parents[2] / "examples" / "python_model"


def test_the_model_reads_digits_and_its_process_ends_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "in_process.py"], cwd=FOLDER,
        env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    read, right = (line.split()[1:] for line in done.stdout.splitlines())
    assert sum(map(str.__eq__, read, right)) >= 9
