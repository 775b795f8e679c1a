import os
from pathlib import Path

import pytest

from inferd.observability.machine import (
    Gpu,
    available_cores,
    cgroup_cores,
    cgroup_memory_bytes,
    describe_machine,
    parse_gpus,
)

GIB = 1 << 30


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine_can_be_described() -> None:
    here = describe_machine()
    assert 1 <= here.cores_available <= here.cores_by_affinity == len(os.sched_getaffinity(0))
    assert here.cpu_model
    assert here.memory_total_bytes is not None
    assert here.memory_available_bytes is not None
    assert here.memory_available_bytes <= here.memory_total_bytes


def test_an_empty_root_limits_nothing(tmp_path: Path) -> None:
    here = describe_machine(tmp_path)
    assert here.cores_available == len(os.sched_getaffinity(0))
    assert (here.cores_by_cgroup, here.memory_limit_bytes) == (None, None)
    assert (here.memory_total_bytes, here.instruction_sets) == (None, ())


def test_cgroup_version_2_takes_the_least_limit_on_the_way_up(tmp_path: Path) -> None:
    root = machine(tmp_path, {
        "proc/self/cgroup": "0::/pods/one\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
        "sys/fs/cgroup/pods/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/pods/one/cpu.max": "400000 100000\n",
        "sys/fs/cgroup/pods/memory.max": "max\n",
        "sys/fs/cgroup/pods/one/memory.max": f"{2 * GIB}\n",
    })  # fmt: skip
    assert cgroup_cores(root) == 1.5
    assert cgroup_memory_bytes(root) == 2 * GIB
    assert available_cores(root) == min(2, len(os.sched_getaffinity(0)))


def test_cgroup_version_1_in_a_container_where_only_the_top_is_mounted(tmp_path: Path) -> None:
    root = machine(tmp_path, {
        "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "20000\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
    })  # fmt: skip
    assert cgroup_cores(root) == 0.2
    assert available_cores(root) == 1
    assert cgroup_memory_bytes(root) == GIB


def test_cgroup_version_1_without_a_limit(tmp_path: Path) -> None:
    root = machine(tmp_path, {
        "proc/self/cgroup": "2:memory:/\n1:cpu:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    })  # fmt: skip
    assert (cgroup_cores(root), cgroup_memory_bytes(root)) == (None, None)


@pytest.mark.parametrize(
    ("cpuinfo", "model", "sets"),
    [
        ("processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu amx_int8 avx2 avx512f avx2x\n\n"
         "processor\t: 1\nmodel name\t: other\n", "Xeon", ("avx2", "avx512f", "amx_int8")),
        ("processor\t: 0\nFeatures\t: fp asimd sve\n", None, ("asimd", "sve")),
    ],
)  # fmt: skip
def test_processor_of_both_families(
    tmp_path: Path, cpuinfo: str, model: str | None, sets: tuple[str, ...]
) -> None:
    here = describe_machine(machine(tmp_path, {"proc/cpuinfo": cpuinfo}))
    assert here.instruction_sets == sets
    assert here.cpu_model == model if model else here.cpu_model


def test_memory_is_in_bytes(tmp_path: Path) -> None:
    text = "MemTotal:       1024 kB\nMemAvailable:    512 kB\nHugePages_Total:       0\n"
    here = describe_machine(machine(tmp_path, {"proc/meminfo": text}))
    assert (here.memory_total_bytes, here.memory_available_bytes) == (1024 * 1024, 512 * 1024)


def test_gpus_from_nvidia_smi() -> None:
    text = "NVIDIA H200, 143771, 570.1\nGB10, [N/A], 580.2\n\nwarning\n"
    assert parse_gpus(text) == (
        Gpu("NVIDIA H200", 143771 * 1024 * 1024, "570.1"),
        Gpu("GB10", 0, "580.2"),
    )
