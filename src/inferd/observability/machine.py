"""The machine as this process may use it: processor, cores, memory, limits, GPUs.

It only looks, at files that Linux keeps under `root` (a test gives a folder) and at nvidia-smi. It
refuses to judge what it finds (`cli/doctor.py`) and to decide on it (`server.py`).
"""

import math
import os
import platform
import resource
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path("/")

INSTRUCTION_SETS: Final = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "sve",
)  # fmt: skip
"""Those on which the speed of inference turns, by the names Linux gives them."""

# Version 1 of cgroups says "no limit" with a number near the largest there is.
_NO_LIMIT_BYTES: Final = 1 << 60


class Gpu(msgspec.Struct, frozen=True):
    """One GPU as nvidia-smi tells it."""

    name: str
    memory_bytes: int
    driver: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What this process has; None where nothing limits it or nothing is known."""

    system: str
    architecture: str
    cpu_model: str
    instruction_sets: tuple[str, ...]
    cores_total: int
    cores_by_affinity: int
    cores_by_cgroup: float | None
    cores_available: int
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    memory_limit_bytes: int | None
    open_files_limit: int | None
    gpus: tuple[Gpu, ...]


def has_gpu(root: Path = ROOT) -> bool:
    """Whether this process sees the device of a GPU that can be computed on: of NVIDIA, of AMD, or
    through Windows."""
    found = root.glob("dev/nvidia[0-9]*")
    return any(found) or any((root / "dev" / name).exists() for name in ("kfd", "dxg"))


def gpu_count(environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> int:
    """How many GPUs of NVIDIA a program finds that this process starts, which CUDA counts from 0;
    of others 0: they are not told apart here."""
    there = len([*root.glob("dev/nvidia[0-9]*")])
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    named = 0
    for name in visible.split(","):
        if name.strip().startswith("MIG-"):  # of parts of GPUs a process has no more than one
            return min(there, 1)
        if not name.strip().isdigit() and not name.strip().startswith("GPU-"):
            break  # such as -1, which hides all that follow
        named += 1
    return min(there, named)


def describe_machine(root: Path = ROOT) -> Machine:
    """Look at everything; asks nvidia-smi, so it can take a second."""
    cpu_model, flags = _processor(root)
    memory = _memory(root)
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        cpu_model=cpu_model,
        instruction_sets=tuple(name for name in INSTRUCTION_SETS if name in flags),
        cores_total=os.cpu_count() or 1,
        cores_by_affinity=len(os.sched_getaffinity(0)),
        cores_by_cgroup=cgroup_cores(root),
        cores_available=available_cores(root),
        memory_total_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        memory_limit_bytes=cgroup_memory_bytes(root),
        open_files_limit=_open_files_limit(),
        gpus=_gpus(),
    )


def available_cores(root: Path = ROOT) -> int:
    """How many cores this process can keep busy: its affinity, or its quota rounded up."""
    cores = len(os.sched_getaffinity(0))
    quota = cgroup_cores(root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def physical_cores(root: Path = ROOT) -> int:
    """Cores this process can keep busy, where two threads of one core count once."""
    available = os.sched_getaffinity(0)
    seen = set()
    for cpu in available:
        path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        seen.add(min(_numbers(_read(path)) & available, default=cpu))
    return max(1, min(len(seen), available_cores(root)))


def _numbers(text: str) -> set[int]:
    """Linux's lists of processors: "0-3,8"."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return found


def free_memory_bytes(root: Path = ROOT) -> int:
    """Memory that could be taken now: what the system says is available, and not more than the
    cgroup's limit; 0 where nothing is known."""
    available = _memory(root).get("MemAvailable", 0)
    limit = cgroup_memory_bytes(root)
    return available if limit is None else min(available, limit)


def cgroup_cores(root: Path = ROOT) -> float | None:
    """The least CPU quota of the cgroups that this process is in, in cores."""
    quotas = []
    for folder in _cgroup_folders(root, "cpu"):
        # Version 2 has "quota period" in one file, version 1 a file for each.
        words = _read(folder / "cpu.max").split() or [
            *_read(folder / "cpu.cfs_quota_us").split(),
            *_read(folder / "cpu.cfs_period_us").split(),
        ]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def cgroup_memory_bytes(root: Path = ROOT) -> int | None:
    """The least memory limit of the cgroups that this process is in."""
    limits = []
    for folder in _cgroup_folders(root, "memory"):
        word = (_read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")).strip()
        if word.isdigit() and int(word) < _NO_LIMIT_BYTES:
            limits.append(int(word))
    return min(limits, default=None)


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """The folder of this process's cgroup and all above it: each of them can hold a limit.

    In a container the path may be the host's, of which nothing is mounted but the last folder as
    the top; folders that are not there are read as empty.
    """
    mounted = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        if controllers:
            tops = [mounted / controllers, mounted / controller]
        else:
            tops = [mounted, mounted / "unified"]
        below = [part for part in path.split("/") if part not in ("", ".", "..")]
        for top in tops:
            for depth in range(len(below), -1, -1):
                yield top.joinpath(*below[:depth])


def _processor(root: Path) -> tuple[str, frozenset[str]]:
    """Model and flags of the first core; Arm calls its flags features and often has no model."""
    first = _read(root / "proc/cpuinfo").split("\n\n")[0]
    fields = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in first.splitlines())
    }
    flags = fields.get("flags") or fields.get("Features") or ""
    model = fields.get("model name") or platform.processor() or platform.machine()
    return model, frozenset(flags.split())


def _memory(root: Path) -> dict[str, int]:
    found = {}
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words[1:] == ["kB"] and words[0].isdigit():
            found[name] = int(words[0]) * 1024
    return found


def _open_files_limit() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _gpus() -> tuple[Gpu, ...]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version"]
    try:
        answer = subprocess.run(
            [*query, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(answer.stdout)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """The GPUs in nvidia-smi's CSV of name, memory in MiB, driver."""
    gpus = []
    for line in text.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 3:
            mebibytes = int(words[1]) if words[1].isdigit() else 0
            gpus.append(Gpu(words[0], mebibytes * 1024 * 1024, words[2]))
    return tuple(gpus)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
