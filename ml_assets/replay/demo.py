"""`ml-assets demo`: the recorded year through a real Dagster. January to October at once, then the rest week by week.

It goes on where it stopped: what has been delivered is not delivered again, and what has been made is not made again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_assets import keys
from ml_assets.lake import Store
from ml_assets.replay.faults import FAULTS
from ml_assets.replay.world import FIRST_DAY, LAST_DAY, World, delivered_at
from ml_assets.resources.clock import Clock

PROBLEM = "flight_delay"
HISTORY_END = date(2013, 10, 31)
LABEL_DELAY = timedelta(days=2)  # by then a day's last flight has arrived and its outcome has been known for a day
WEEK = timedelta(days=7)
FAULTY_WEEK = 2  # the week in which the outside world misbehaves
SENSOR_SECONDS = "1"
WEEK_TIMEOUT = 300.0


def demo(root: Path, *, port: int, ui: bool) -> None:
    """Run the main job on the recorded year, tell how it went, and serve the web UI until interrupted."""
    from ml_assets.resources.local import LocalDagsterError, free_port, local_dagster, port_is_taken

    if ui and port_is_taken(port):
        raise LocalDagsterError(f"port {port} on 127.0.0.1 is taken; end what listens there, or give --port another one")
    started = time.monotonic()
    say = _Progress(started)
    say.line("the outside world delivers January to October")
    deliver(root, HISTORY_END, now=_midnight(HISTORY_END + timedelta(days=1)) + LABEL_DELAY)
    say.line("starting Dagster: web UI, daemon, code server")
    log = root / "data" / "dagster" / "dev.log"
    with local_dagster(root, port=port if ui else free_port(), log=log, environ={"ML_ASSETS_SENSOR_SECONDS": SENSOR_SECONDS}) as running:
        say.line(f"watch it at {running.url}")
        with _instance() as instance:
            _history(instance, running, say)
            for number, last in enumerate(weeks(), start=1):
                _week(root, instance, running, say, number, last)
            Clock(_setting(root, "ML_ASSETS_REPLAY_CLOCK")).set(_midnight(LAST_DAY + timedelta(days=1)) + LABEL_DELAY)
            _launch(instance, running, say, "monitor", "the last outcomes become known: job monitor")
        _summary(root, running.url, ui, time.monotonic() - started)
        if ui:
            running.process.wait()


def serve(root: Path, *, port: int) -> None:
    """Serve the web UI with the daemon until interrupted."""
    from ml_assets.resources.local import LocalDagsterError, local_dagster, port_is_taken

    if port_is_taken(port):
        raise LocalDagsterError(f"port {port} on 127.0.0.1 is taken; end what listens there, or give --port another one")
    with local_dagster(root, port=port, log=root / "data" / "dagster" / "dev.log") as running:
        print(f"the web UI is at {running.url} (end with Ctrl-C)")
        running.process.wait()


def deliver(root: Path, until: date, *, now: datetime | None = None, faults: bool = False) -> str:
    """Deliver what has not been delivered up to `until`, and set the replay's clock; return a line that says what.

    With `faults`, one broken delivery of each kind comes beside the last days.
    """
    if not FIRST_DAY <= until <= LAST_DAY:
        raise ValueError(f"day {until} is not in the recorded year; give one from {FIRST_DAY} to {LAST_DAY}")
    world = World(Store(_setting(root, "ML_ASSETS_LANDING")))
    names = set(world.landing.names())
    if "planes/planes.csv" not in names:
        world.deliver_reference(at=delivered_at(FIRST_DAY - timedelta(days=1)))
    wanted = [date.fromisoformat(day) for day in keys.days(FIRST_DAY, until)]
    missing = [day for day in wanted if f"weather/weather-{day}.csv.gz" not in names]
    clock = Clock(_setting(root, "ML_ASSETS_REPLAY_CLOCK"))
    if missing:
        clock.set(now or delivered_at(until))
    delivered = world.deliver_days(missing)
    broken = [fault(world, until - timedelta(days=place % 7)) for place, fault in enumerate(FAULTS)] if faults else []
    return f"{len(delivered)} files for {len(missing)} days up to {until}, {len(broken)} broken ones; now is {clock.now():%Y-%m-%d %H:%M} UTC"


def weeks() -> list[date]:
    """Return the last days of the nine weekly steps after the history."""
    last, found = HISTORY_END, []
    while last < LAST_DAY:
        last = min(last + WEEK, LAST_DAY)
        found.append(last)
    return found


class _Progress:
    """Lines with the time since the start; on a terminal, the current line is redrawn."""

    def __init__(self, started: float) -> None:
        self._started, self._open = started, False

    def line(self, text: str) -> None:
        """Write a line of its own."""
        print(f"{chr(10) if self._open else ''}[{time.monotonic() - self._started:5.0f} s] {text}", flush=True)
        self._open = False

    def steps(self, done: int, total: int) -> None:
        """Redraw the count of steps, on a terminal only."""
        if sys.stdout.isatty():
            print(f"\r          {done} of {total} steps", end="", flush=True)
            self._open = True


@contextmanager
def _instance() -> Iterator[Any]:
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        yield instance


def _history(instance: Any, running: Any, say: _Progress) -> None:
    """Materialize everything for January to October, unless a champion is in office already."""
    import dagster as dg

    if instance.get_latest_materialization_event(dg.AssetKey([PROBLEM, "drift_report"])) is not None:
        say.line("January to October are made already")
        return
    days = {
        "dagster/asset_partition_range_start": FIRST_DAY.isoformat(),
        "dagster/asset_partition_range_end": HISTORY_END.isoformat(),
    }
    _launch(instance, running, say, "everything", "job everything: files, features, models, reports, 304 days at once", days)


def _launch(
    instance: Any, running: Any, say: _Progress, job: str, text: str, tags: Mapping[str, str] | None = None
) -> None:
    from ml_assets.resources.local import wait_for_run

    say.line(text)
    wait_for_run(instance, running.launch(job, tags), running, say.steps)


def _week(root: Path, instance: Any, running: Any, say: _Progress, number: int, last: date) -> None:
    """Deliver a week and wait until the sensor's runs have taken it in."""
    places = _places(root)
    deliver(root, last, faults=number == FAULTY_WEEK and not _done(places, last))
    _wait(lambda: _settled(places, instance, running), WEEK_TIMEOUT, f"week up to {last}: the sensor's runs; see {running.url}/runs")
    say.line(f"week {number} of {len(weeks())}, up to {last}: {_week_line(root)}")


def _settled(places: Any, instance: Any, running: Any) -> bool:
    """Tell whether every delivered file has been decided on and no run is under way; raise when a run failed."""
    import dagster as dg
    from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

    from ml_assets.resources.local import LocalDagsterError

    running.check_alive()
    newest = instance.get_runs(limit=1)
    if newest and newest[0].status is dg.DagsterRunStatus.FAILURE:
        raise LocalDagsterError(f"run {newest[0].run_id} failed; see {running.url}/runs/{newest[0].run_id}")
    busy = instance.get_runs(dg.RunsFilter(statuses=list(NOT_FINISHED_STATUSES)), limit=1)
    return not busy and not places.ledger.unseen(places.landing.list())


def _done(places: Any, last: date) -> bool:
    return any(entry.partition == keys.day(last) for entry in places.ledger.entries())


def _week_line(root: Path) -> str:
    from ml_assets.lake import Lake
    from ml_assets.monitoring.watching import latest_drift, latest_performance

    lake = Lake(_setting(root, "ML_ASSETS_LAKE"))
    drift, realised = latest_drift(lake, PROBLEM), latest_performance(lake, PROBLEM)
    parts = [f"drift of {drift.first}: {drift.verdict} ({len(drift.drifted)} features)" if drift else "no drift report"]
    if realised and realised["status"] == "realised":
        parts.append(f"realised ROC-AUC {realised['roc_auc']:.3f} on {realised['matured']:,} known outcomes")
    return ", ".join(parts)


def _summary(root: Path, url: str, ui: bool, seconds: float) -> None:
    from ml_assets.resources.overview import current, table

    print(f"\n{table(current(root))}\n")
    where: Sequence[tuple[str, str]] = [
        ("the asset graph", f"{url}/asset-groups" if ui else "make ui, then http://127.0.0.1:3000/asset-groups"),
        ("the evaluation report", f"data/reports/{PROBLEM}/evaluation_report.html"),
        ("the drift reports", f"data/reports/{PROBLEM}/drift/"),
        ("the experiments", ".venv/bin/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///data/mlflow.db"),
        ("the state, for programs", ".venv/bin/ml-assets status --json"),
    ]
    for what, place in where:
        print(f"  {what:<24} {place}")
    print(f"\nmade in {seconds / 60:.1f} minutes" + ("; Ctrl-C ends the web UI" if ui else ""), flush=True)


def _wait(true: Callable[[], bool], seconds: float, what: str) -> None:
    from ml_assets.resources.local import LocalDagsterError

    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise LocalDagsterError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.5)


def _places(root: Path) -> Any:
    from ml_assets.resources.environment import resources

    return resources(root)["landing"].open()


def _setting(root: Path, name: str) -> str:
    from ml_assets.resources.environment import setting

    return setting(name, root)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
