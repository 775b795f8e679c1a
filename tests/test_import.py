import subprocess
import sys

import pytest

HEAVY = {"numpy", "torch", "onnxruntime", "grpc", "rich", "click"}
LIMIT_S = 0.1

SCRIPT = """
import sys, time
start = time.perf_counter()
import inferd
print(time.perf_counter() - start)
print(*sys.modules)
"""


def test_import_inferd_is_quick_and_loads_nothing_heavy() -> None:
    seconds = []
    for _ in range(3):  # the least of three, since other tests may have the cores
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
        )
        took, modules = done.stdout.splitlines()
        assert set(modules.split()).isdisjoint(HEAVY)
        seconds.append(float(took))
    assert min(seconds) < LIMIT_S


def test_what_an_author_imports_is_there_and_nothing_else() -> None:
    import inferd

    for name in inferd.__all__:
        assert getattr(inferd, name) is not None
    with pytest.raises(AttributeError, match="module 'inferd' has no attribute 'Modle'"):
        inferd.Modle  # noqa: B018
