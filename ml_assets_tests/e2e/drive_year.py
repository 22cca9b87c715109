"""What the year's replay does in a process of the copied project: train on four months, then live week by week.

Each week's files are delivered, taken in, scored and reported; the sensor decides whether to train. In June the weather station
reports humidity as a share instead of percent, for two weeks: it passes every contract. The summary is written to `year.json`.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from ml_assets import keys
from ml_assets.lake import Store
from ml_assets.replay.world import FIRST_DAY, World, delivered_at
from ml_assets.resources.clock import Clock
from ml_assets.resources.environment import resources, setting

ROOT = Path(__file__).parent
PROBLEM, SENSOR = "flight_delay", "flight_delay_retrain_when_needed"
HISTORY, PLANTED = date(2013, 4, 28), (date(2013, 6, 10), date(2013, 6, 23))
WEEK, DAY = timedelta(days=7), timedelta(days=1)
QUIETLY = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Station(World):
    """The outside world, with a weather station that changes a unit for a while."""

    def rows(self, table: str, day: date) -> pl.DataFrame:
        """Return the rows of one day; humidity in the planted weeks is a share."""
        found = super().rows(table, day)
        if table == "weather" and PLANTED[0] <= day <= PLANTED[1]:
            return found.with_columns(pl.col("humid") / 100)
        return found


class Year:
    """A deployment that lives through the year in this process."""

    def __init__(self) -> None:
        """Load the definitions of the copy."""
        from ml_assets.definitions import defs

        self.world = Station(Store(setting("ML_ASSETS_LANDING", ROOT)))
        self.clock = Clock(setting("ML_ASSETS_REPLAY_CLOCK", ROOT))
        self.defs, self.instance = defs(), dg.DagsterInstance.get()
        self.repository = self.defs.get_repository_def()
        self.trained: list[str] = []
        self.started = time.monotonic()

    def begin(self) -> None:
        """Take in four months at once, and train."""
        self.world.deliver_reference(at=delivered_at(FIRST_DAY - DAY))
        self.deliver(FIRST_DAY, HISTORY)
        self.run("ingest", FIRST_DAY, HISTORY)
        self.run("train")
        self.say("four months taken in, trained")

    def live(self, first: date, last: date) -> None:
        """Live through a week."""
        self.deliver(first, last)
        self.run("update", first, last)
        for request in self.decided():
            self.run(str(request.job_name or "train"), tags=dict(request.tags), only=request.asset_selection)
            self.trained.append(f"{last}")
        self.say(f"week to {last}")

    def deliver(self, first: date, last: date) -> None:
        """Deliver days; it is one o'clock (UTC) on the day after the last, when its files are there."""
        self.world.deliver_days(date.fromisoformat(day) for day in keys.days(first, last))
        self.clock.set(datetime(last.year, last.month, last.day, 13, tzinfo=UTC) + DAY)

    def run(
        self, job: str, first: date | None = None, last: date | None = None, *, tags: Any = None, only: Any = None
    ) -> None:
        """Run a job, over a range of days if one is given; a red run that is a blocked week is told, and goes on."""
        days = {
            "dagster/asset_partition_range_start": f"{first}",
            "dagster/asset_partition_range_end": f"{last}",
        }
        done = self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            tags={**(tags or {}), **(days if first else {})},
            asset_selection=list(only) if only else None,
            run_config=QUIETLY,
            raise_on_error=False,
        )
        if not done.success:
            self.say(f"job {job} failed: {[event.step_key for event in done.all_events if event.is_step_failure]}")

    def decided(self) -> list[dg.RunRequest]:
        """Ask the sensor whether to train, as the daemon does."""
        if not self.repository.has_sensor_def(SENSOR):
            return []
        with dg.build_sensor_context(
            instance=self.instance, repository_def=self.repository, resources=resources(ROOT)
        ) as context:
            return list(self.repository.get_sensor_def(SENSOR).evaluate_tick(context).run_requests or [])

    def say(self, text: str) -> None:
        """Tell how far we are."""
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)


def weeks(until: date) -> Iterator[tuple[date, date]]:
    """Yield the first and the last day of each week after the history."""
    first = HISTORY + DAY
    while first + WEEK - DAY <= until:
        yield first, first + WEEK - DAY
        first += WEEK


def summary(year: Year) -> dict[str, Any]:
    """Return what the year's story says, for programs."""
    from ml_assets.monitoring.story import story

    told = story(resources(ROOT)["lake"].open(), PROBLEM)
    return {
        "seconds": round(time.monotonic() - year.started),
        "trained": year.trained,
        "windows": told.windows.to_dicts(),
        "decisions": [json.loads(one.to_json()) for one in told.decisions],
        "promotions": [
            {"version": one.version, "when": one.when.isoformat(), "why": one.why} for one in told.promotions
        ],
        "alerts": [one.to_dict() | {"plot": bool(one.plot)} for one in told.alerts],
        "weeks": told.performance.height,
        "days": told.kpi.height,
        "absent": dict(told.absent),
        "humid": told.drift.filter(pl.col("feature") == "humid").to_dicts(),
    }


def leave_out_evidently() -> None:
    """Let Evidently's pages be empty: they decide nothing, and take half of the time."""
    from ml_assets.monitoring import evidently

    def left_out(*_: Any, **__: Any) -> evidently.DriftRun:
        return evidently.DriftRun("<p>left out of the quick replay</p>", None)

    evidently.drift_run = left_out


def main() -> None:
    """Live until the day that is given."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("--until", type=date.fromisoformat, default=date(2013, 12, 31))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.quick:
        leave_out_evidently()
    year = Year()
    year.begin()
    for first, last in weeks(given.until):
        year.live(first, last)
    (ROOT / "year.json").write_text(json.dumps(summary(year), indent=1, default=str))


if __name__ == "__main__":
    main()
