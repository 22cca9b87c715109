"""What the end-to-end test does in a process of the copied project: deliver, let the sensor work, train, deliver again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from ml_assets.replay.demo import deliver
from ml_assets.resources.clock import Clock
from ml_assets.resources.environment import resources, setting
from ml_assets.resources.local import LocalDagster, free_port, local_dagster

ROOT = Path(__file__).parent
HISTORY, LIVE = date(2013, 2, 4), date(2013, 2, 11)
LABELS_KNOWN = timedelta(days=3)


def main() -> None:
    """Drive the six weeks, telling the seconds of each part."""
    deliver(ROOT, HISTORY, now=_after(HISTORY))
    environ = {"ML_ASSETS_SENSOR_SECONDS": "1"}
    with local_dagster(ROOT, port=free_port(), log=ROOT / "dev.log", environ=environ) as running:
        part("started")
        taken_in(running)
        part("sensor: five weeks ingested")
        running.run("train")
        part("trained")
        deliver(ROOT, LIVE, now=_after(HISTORY) + timedelta(days=7), faults=True)
        taken_in(running)
        part("sensor: sixth week, with faults")
        Clock(setting("ML_ASSETS_REPLAY_CLOCK", ROOT)).set(_after(LIVE))
        running.run("monitor")
        part("monitored")


def taken_in(running: LocalDagster) -> None:
    """Wait until the sensor's runs have decided on every delivered file."""
    places = resources(ROOT)["landing"].open()
    wait(lambda: running.idle() and not places.ledger.unseen(places.landing.objects()))


def wait(true: Callable[[], bool], seconds: float = 300) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            sys.exit(f"not within {seconds} s")
        time.sleep(0.5)


def part(text: str) -> None:
    """Tell how far we are."""
    print(f"{time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


def _after(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1) + LABELS_KNOWN


if __name__ == "__main__":
    STARTED = time.monotonic()
    main()
