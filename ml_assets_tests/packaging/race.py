"""One process of a race for office, on MLflow's own SQLite registry: `race.py DATABASE LAKE VERSION SCORE MEET [die]`.

It looks at the champion, waits until all others have looked too (a file for each in MEET), and decides. With `die` it is
killed between log and alias.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from ml_assets.development.tracking import Tracking
from ml_assets.lake import Store
from ml_assets.packaging import history
from ml_assets.packaging.champion import Champion
from ml_assets.packaging.office import promote
from ml_assets.packaging.promotion import Decision
from ml_assets_tests.packaging.offices import NOW, PROBLEM, judge

RACERS, SECONDS = 2, 60


def meet(place: Path) -> None:
    """Wait until all racers are here."""
    (place / str(os.getpid())).touch()
    deadline = time.monotonic() + SECONDS
    while len(list(place.iterdir())) < RACERS and time.monotonic() < deadline:
        time.sleep(0.01)


def main(database: str, lake: str, version: str, score: str, place: str, dying: str = "") -> None:
    looked = False

    def decide(office: Champion | None) -> Decision:
        nonlocal looked
        if not looked and not dying:
            looked = True
            meet(Path(place))
        return judge(float(score))(office)

    if dying:
        history._move = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    tracking = Tracking(f"sqlite:///{database}", f"{lake}-artifacts")
    promote(tracking, Store(lake), PROBLEM, version, decide=decide, who=f"process {score}", when=NOW)


if __name__ == "__main__":
    main(*sys.argv[1:])
