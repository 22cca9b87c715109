"""The resident memory of a process and all that it started, watched from outside."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

EVERY = 0.05  # seconds between two looks


class TreePeak:
    """Within the `with`, watch all processes that this one starts, and theirs; those that it had before do not count.

    `gigabytes` is the highest sum, at any look, of each living process's own highest resident memory (VmHWM): pages that
    several share count in each, and highs of different moments are added, so it is never too little by more than what a
    process took after the last look at it. Needs Linux's /proc.
    """

    def __init__(self, *, every: float = EVERY) -> None:
        """Look each `every` seconds."""
        self._every, self._stop, self._peak = every, Event(), 0
        self._before: set[int] = set()
        self._watch = Thread(target=self._look_on, daemon=True)

    @property
    def gigabytes(self) -> float:
        """Return the highest so far in GB."""
        return self._peak / 1e9

    def __enter__(self) -> TreePeak:
        """Begin to look."""
        self._before = set(_children())
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop."""
        self._stop.set()
        self._watch.join()

    def _look_on(self) -> None:
        while not self._stop.wait(self._every):
            self._peak = max(self._peak, highest(set(_children()) - self._before))


def _children() -> Iterable[int]:
    import psutil

    return [child.pid for child in psutil.Process().children(recursive=True)]


def highest(pids: Iterable[int]) -> int:
    """Return the sum of the processes' highest resident memory in bytes; one that has ended has none."""
    return sum(map(_highest, pids))


def _highest(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = [line for line in lines if line.startswith("VmHWM:")]  # a zombie has no memory, and no such line
    return int(found[0].split()[1]) * 1024 if found else 0
