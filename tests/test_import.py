import subprocess
import sys

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
