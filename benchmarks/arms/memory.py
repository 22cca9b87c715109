"""A process's own resident memory, its highest since a moment, and a bound on what it may take."""

from __future__ import annotations

import resource
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc(5)


class Memory:
    """Measure from now on. Raises `OSError` where there is no Linux /proc."""

    def __init__(self) -> None:
        """Take the resident memory of now as the beginning."""
        self._peak_before = _status("VmHWM")
        CLEAR.write_text(RESET_PEAK)
        self._beginning = _status("VmRSS")

    def told(self) -> dict[str, float]:
        """Return the highest since the beginning above the beginning, and the highest since the start, in MB and GB."""
        during = _status("VmHWM")
        peak = max(during, self._peak_before)
        return {"added_mb": (during - self._beginning) / 1e6, "peak_mb": peak / 1e6, "peak_gb": peak / 1e9}


def bound(gigabytes: float | None) -> None:
    """Let this process take no more address space."""
    if gigabytes:
        most = int(gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _status(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
