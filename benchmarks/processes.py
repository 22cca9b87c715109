"""Python in a process of its own, with the project's environment and nothing of a person's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_assets.resources.process import prepare

LAST_LINES = 30


class BenchError(RuntimeError):
    """A process of a bench failed: what was measured would mean nothing."""


@dataclass(frozen=True)
class Done:
    """What a process printed, and the seconds from its start to its end."""

    output: str
    seconds: float


def python(arguments: Sequence[str], *, root: Path, log: Path) -> Done:
    """Run `python …` in the project at `root`, whose code it imports; its stderr goes to `log`.

    Raises `BenchError` with the last lines when it fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=root,
            env=environment(root),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        last = "\n".join([*done.stdout.splitlines(), *log.read_text().splitlines()][-LAST_LINES:])
        raise BenchError(f"python {' '.join(arguments[:2])} ended with code {done.returncode}, see {log}:\n{last}")
    return Done(done.stdout, seconds)


def environment(root: Path) -> Mapping[str, str]:
    """Return the environment of a process of the project at `root`: its own instance, its own data."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ML_ASSETS_", "DAGSTER_"))}
    kept["PYTHONPATH"] = str(root)
    prepare(kept, root)
    return kept
