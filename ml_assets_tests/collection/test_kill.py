"""`kill -9` at every step of uploads, looks, runs and writes: nothing is lost, nothing is doubled, and all is as if nobody was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEEDS = ("0", "1")
LEAST = 200
BOUNDARIES = (
    "after listing landing",
    "after naming a run",
    "half a file written",
    "after naming an upload",
    "after naming a quarantine copy",
    "after naming data",
    "after naming a manifest",
    "after naming a batch of the ledger",
)
# Daemons that are not sound, each by one change: the schedules must find them.
IN_PLACE = """
from ml_assets.lake.folder import Folder
def write(self, name, data, only):
    target = self._local(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return ""
Folder.write = write
"""
FORGETFUL = """
killing.Runs.failures = lambda self: {}
"""


def begin(code: str) -> subprocess.Popen[str]:
    """Start a process that works through a world's schedules."""
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, text=True, **pipes)  # type: ignore[call-overload]


def code(folder: Path, seed: str, change: str = "") -> str:
    """Return what such a process does, after one change to what it is made of."""
    return (
        f"import os\nfrom ml_assets_tests.collection import killing\n{change}\nkilling.main({str(folder)!r}, {seed!r})"
    )


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_doubled_wherever_a_process_is_killed(tmp_path: Path) -> None:
    processes = [begin(code(tmp_path, seed)) for seed in SEEDS]
    told = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(SEEDS), [err for _, err in told]
    schedules = [json.loads(line) for out, _ in told for line in out.splitlines()]
    kills = Counter(schedule["step"] for schedule in schedules)
    for boundary, number in kills.most_common():
        print(f"{number:4} {boundary}")
    lost, doubled = (sum(schedule[key] for schedule in schedules) for key in ("lost", "doubled"))
    total = sum(schedule["kills"] for schedule in schedules)
    print(f"{len(schedules)} schedules, {total} kills: {lost} lost, {doubled} doubled")
    assert len(schedules) >= LEAST
    assert all(schedule["kills"] for schedule in schedules)
    assert set(BOUNDARIES) <= set(kills)
    assert (lost, doubled) == (0, 0)
    assert [schedule for schedule in schedules if schedule["differs"]] == []


@pytest.mark.slow
@pytest.mark.parametrize("change", [IN_PLACE, FORGETFUL], ids=["writes in place", "forgets killed runs"])
def test_a_daemon_that_is_not_sound_is_found(tmp_path: Path, change: str) -> None:
    process = begin(code(tmp_path, SEEDS[0], change))
    out, _ = process.communicate()
    assert process.returncode or any(json.loads(line)["differs"] for line in out.splitlines())
