"""Where tests of Triton kernels run: compiled on a GPU, else under Triton's interpreter.

Interpreted kernels need a process that has not imported Triton yet, so their files run themselves
once more.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu")

kernels = pytest.mark.skipif(
    DEVICE.type == "cpu" and not INTERPRETED,
    reason="no GPU to compile for; test_interpreted runs this",
)
needs_interpreter = pytest.mark.skipif(
    INTERPRETED or DEVICE.type == "cuda" or find_spec("triton") is None,
    reason="kernels are run here already, or Triton is not installed",
)


def run_interpreted(file: str) -> None:
    """Run the tests of a file under Triton's interpreter; they must pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
