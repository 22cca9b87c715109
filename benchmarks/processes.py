"""Python in a process of its own, with the project's environment and nothing of a person's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_assets.resources.process import prepare

LAST_LINES = 30
OUT_OF_MEMORY = 71  # how a process of ours ends that was refused memory
KILLED = (OUT_OF_MEMORY, -signal.SIGKILL, -signal.SIGABRT)  # and how those end that could not even say so


class BenchError(RuntimeError):
    """A process of a bench failed: what was measured would mean nothing."""


class CutOffError(BenchError):
    """A process took more time or memory than it was given: that is a result too."""


@dataclass(frozen=True)
class Done:
    """What a process printed, and the seconds from its start to its end."""

    output: str
    seconds: float


def python(
    arguments: Sequence[str],
    *,
    root: Path,
    log: Path,
    at_most: float | None = None,
    executable: str = sys.executable,
    variables: Mapping[str, str] | None = None,
) -> Done:
    """Run `python …` in the project at `root`, whose code it imports, for `at_most` seconds; its stderr goes to `log`.

    `executable` is the Python of another environment, `variables` are added to the process's.
    Raises `BenchError` with the last lines when it fails, `CutOffError` when time or memory was not enough.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        started = time.perf_counter()
        try:
            done = subprocess.run(
                [executable, *arguments],
                cwd=root,
                env={**environment(root), **(variables or {})},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                check=False,
                timeout=at_most,
            )
        except subprocess.TimeoutExpired as error:
            raise CutOffError(f"longer than {at_most:g} s") from error
        seconds = time.perf_counter() - started
    if done.returncode in KILLED:
        raise CutOffError(f"out of memory after {seconds:.0f} s (code {done.returncode})")
    if done.returncode:
        last = "\n".join([*done.stdout.splitlines(), *log.read_text().splitlines()][-LAST_LINES:])
        raise BenchError(f"python {' '.join(arguments[:2])} ended with code {done.returncode}, see {log}:\n{last}")
    return Done(done.stdout, seconds)


def environment(root: Path) -> Mapping[str, str]:
    """Return the environment of a process of the project at `root`: its own instance, its own data."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ML_ASSETS_", "DAGSTER_"))}
    kept |= {"PYTHONPATH": str(root), "ML_ASSETS_WEATHER_API": "none", "ML_ASSETS_REFERENCE_DB": "none"}  # files only
    prepare(kept, root)
    return kept
