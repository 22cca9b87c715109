"""The resident memory of this process: where a piece of work began, and the highest point until its end."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc_pid_clear_refs(5): sets the peak to what is resident now


@dataclass(frozen=True)
class Peak:
    """Bytes resident at the beginning, and the most until the end.

    `most` is of the whole process: what earlier work left in it (imports, caches, memory that was not given back) is in
    both numbers, so `grown` is what the work itself took at the least.
    """

    began: int
    most: int

    @property
    def grown(self) -> int:
        """Return the bytes that were added at the highest point."""
        return max(0, self.most - self.began)


class PeakMemory:
    """Measures one piece of work after the other, in 0.1 ms each; two at one time in one process are not told apart."""

    def __init__(self, status: Path = STATUS, clear: Path = CLEAR) -> None:
        """The files are those of Linux; without them nothing is known."""
        self._status, self._clear = status, clear
        self._began: int | None = None
        self._before = 0
        self._resets = False

    def begin(self) -> None:
        """Begin a piece of work: the peak is set back, where the system allows it."""
        self._resets = False
        with contextlib.suppress(OSError):
            self._clear.write_text(RESET_PEAK)
            self._resets = True
        self._before, self._began = self._read("VmHWM") or 0, self._read("VmRSS")

    def end(self) -> Peak | None:
        """Return the peak since `begin`.

        None where it is not known: there is no Linux /proc, or the peak cannot be set back and earlier work held more.
        """
        most, began, self._began = self._read("VmHWM"), self._began, None
        if most is None or began is None or not (self._resets or most > self._before):
            return None
        return Peak(began, most)

    def _read(self, name: str) -> int | None:
        with contextlib.suppress(OSError):
            for line in self._status.read_text().splitlines():
                if line.startswith(f"{name}:"):
                    return int(line.split()[1]) * 1024
        return None
