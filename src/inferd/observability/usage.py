"""What the machine and this process use now, from /proc; zeros where there is none."""

import time
from pathlib import Path


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * 4096


def memory_bytes() -> tuple[int, int]:
    """Total and available memory of the machine; zeros where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0, 0
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if "kB" in line}
    return values.get("MemTotal", 0), values.get("MemAvailable", 0)


class CpuUtilization:
    """Share of all cores in use by the machine since the last reading."""

    def __init__(self) -> None:
        self._last = self._times()

    def read(self) -> float:
        """From 0 to 1; 0 where the system does not say."""
        busy, total = self._times()
        last_busy, last_total = self._last
        self._last = busy, total
        return (busy - last_busy) / (total - last_total) if total > last_total else 0.0

    @staticmethod
    def _times() -> tuple[float, float]:
        try:
            fields = [float(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        except (OSError, ValueError):
            return 0.0, time.monotonic()
        return sum(fields) - fields[3] - fields[4], sum(fields)
