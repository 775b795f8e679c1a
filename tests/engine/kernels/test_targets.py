"""The kernels on lesser processors: the same tests, with code generated for those.

Numba is told what to generate code for; the kernels ask it what there is. What is chosen differs
(no BF16 products, no VNNI, 256-bit registers), what comes out must not.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = {
    # An Intel server without BF16: VNNI, 512 bits.
    "cascadelake": "+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512vnni,+avx2,+fma,+f16c",
    # Most desktops: 256 bits, neither VNNI nor BF16.
    "haswell": "+avx2,+fma,+f16c",
}
TESTS = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_and_a_runner_pass_on(target: str, tmp_path: Path) -> None:
    features = Path("/proc/cpuinfo").read_text()
    if target == "cascadelake" and "avx512_vnni" not in features:
        pytest.skip("this processor has no AVX-512 VNNI")
    environment = os.environ | {
        "NUMBA_CPU_NAME": target,
        "NUMBA_CPU_FEATURES": TARGETS[target],
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    chosen = ["engine/kernels/test_linear.py", "engine/worker/test_cpu_runner.py"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *chosen,
         "-k", "linear or llama or gemma3 or i8 or i4 or bf16"],
        cwd=TESTS, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    print(ended.stdout[-3000:])
    assert ended.returncode == 0
