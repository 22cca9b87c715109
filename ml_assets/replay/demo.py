"""`ml-assets demo`: the recorded year through a real Dagster. January to October at once, then the rest week by week.

It goes on where it stopped: what has been delivered is not delivered again, and what has been made is not made again.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_assets import keys
from ml_assets.lake import Store
from ml_assets.replay.api import ADDRESS, KEY, weather_service
from ml_assets.replay.faults import FAULTS
from ml_assets.replay.world import DAILY, FIRST_DAY, LAST_DAY, World, delivered_at, make_database
from ml_assets.resources.clock import Clock
from ml_assets.resources.environment import NONE, setting

FLIGHTS = ("flights",)  # weather is pulled
PULLED, PULLED_AGAIN = "weather", timedelta(days=1)  # as it is declared
DATABASE, REGISTER = "ML_ASSETS_REFERENCE_DB", "data/outside/reference.db"
PROBLEM = "flight_delay"
SERVICES = {
    PROBLEM: "flight_delay_v2",
    "arrival_delay": "arrival_delay_v1",
    "airport_segments": "airport_segments_v1",
}
TRAVELLERS = 50  # ask each week
HISTORY_END = date(2013, 10, 31)
LABEL_DELAY = timedelta(days=2)  # by then a day's last flight has arrived and its outcome has been known for a day
WEEK = timedelta(days=7)
FAULTY_WEEK = 2  # the week in which the outside world misbehaves
SENSOR_SECONDS = "1"
WEEK_TIMEOUT = 300.0


def demo(root: Path, *, port: int, ui: bool, tell: Callable[[], str]) -> None:
    """Run the main job on the recorded year, print what `tell` says then, and serve the web UI until interrupted."""
    from ml_assets.resources.local import free_port, local_dagster, require_free

    if ui:
        require_free(port)
    say = _Progress()
    say.line("the outside world delivers January to October")
    deliver(root, HISTORY_END, now=_midnight(HISTORY_END + timedelta(days=1)) + LABEL_DELAY)
    say.line("starting Dagster: web UI, daemon, code server")
    environ = {"ML_ASSETS_SENSOR_SECONDS": SENSOR_SECONDS, "ML_ASSETS_SENSORS": "stopped"}
    with (
        weather_service(root),
        local_dagster(root, port=port if ui else free_port(), log=_log(root), environ=environ) as running,
    ):
        say.line(f"watch it at {running.url}")
        _history(running, say)
        running.start_sensor("landing_sensor")
        for number, last in enumerate(weeks(), start=1):
            _week(root, running, say, number, last)
        Clock(setting("ML_ASSETS_REPLAY_CLOCK", root)).set(_midnight(LAST_DAY + timedelta(days=1)) + LABEL_DELAY)
        _wait(lambda: running.idle() and _is_pulled(root), "what is pulled again by then")
        say.line("the last outcomes become known: job monitor")
        running.run("monitor", progress=say.steps)
        _summary(tell(), running.url, ui, say.seconds)
        if ui:
            running.process.wait()


def serve(root: Path, *, port: int) -> None:
    """Serve the web UI with the daemon until interrupted."""
    from ml_assets.resources.local import local_dagster, require_free

    require_free(port)
    _register(root)
    with weather_service(root), local_dagster(root, port=port, log=_log(root)) as running:
        print(f"the web UI is at {running.url} (end with Ctrl-C)")
        running.process.wait()


def outside(root: Path) -> None:
    """Serve the example's weather, and keep its register, until interrupted."""
    _register(root)
    with weather_service(root) as url:
        print(
            f"weather: {ADDRESS}={url} {KEY}={os.environ[KEY]}\nregister: {root / REGISTER}\n(end with Ctrl-C)",
            flush=True,
        )
        threading.Event().wait()


def deliver(root: Path, until: date, *, now: datetime | None = None, faults: bool = False) -> str:
    """Deliver what has not been delivered up to `until`, and set the replay's clock; return a line that says what.

    With `faults`, one broken delivery of each kind comes beside the last days.
    """
    if not FIRST_DAY <= until <= LAST_DAY:
        raise ValueError(f"day {until} is not in the recorded year; give one from {FIRST_DAY} to {LAST_DAY}")
    world = World(Store(setting("ML_ASSETS_LANDING", root)))
    names = set(world.landing.names())
    _reference(world, root, names)
    wanted = [date.fromisoformat(day) for day in keys.days(FIRST_DAY, until)]
    missing = [day for day in wanted if f"flights/flights-{day}.csv.gz" not in names]
    clock = Clock(setting("ML_ASSETS_REPLAY_CLOCK", root))
    if missing:
        clock.set(now or delivered_at(until))
    delivered = world.deliver_days(missing, DAILY if os.environ.get(ADDRESS) == NONE else FLIGHTS)
    broken = [fault(world, until - timedelta(days=place % 7)) for place, fault in enumerate(FAULTS)] if faults else []
    told = f"{len(delivered)} files for {len(missing)} days up to {until}, {len(broken)} broken ones"
    return f"{told}; now is {clock.now():%Y-%m-%d %H:%M} UTC"


def _reference(world: World, root: Path, names: Collection[str]) -> None:
    """See that the register is there, or its files where the environment says that no database is pulled."""
    if os.environ.get(DATABASE) != NONE:
        _register(root)
    elif "planes/planes.csv" not in names:
        world.deliver_reference(at=delivered_at(FIRST_DAY - timedelta(days=1)))


def _register(root: Path) -> None:
    """Make the register, unless it is there, or another database is pulled."""
    if not os.environ.get(DATABASE) and not (root / REGISTER).is_file():
        make_database(root / REGISTER)


def weeks() -> list[date]:
    """Return the last days of the nine weekly steps after the history."""
    last, found = HISTORY_END, []
    while last < LAST_DAY:
        last = min(last + WEEK, LAST_DAY)
        found.append(last)
    return found


class _Progress:
    """Lines with the seconds since the start; on a terminal, the count of steps is redrawn in place."""

    def __init__(self) -> None:
        self._started, self._open = time.monotonic(), False

    @property
    def seconds(self) -> float:
        """Return the time since the start."""
        return time.monotonic() - self._started

    def line(self, text: str) -> None:
        """Write a line of its own."""
        newline = "\n" if self._open else ""
        print(f"{newline}[{self.seconds:5.0f} s] {text}", flush=True)
        self._open = False

    @property
    def steps(self) -> Callable[[int, int], None] | None:
        """Return what redraws the count of steps; nothing where there is no terminal."""
        return self._redraw if sys.stdout.isatty() else None

    def _redraw(self, done: int, total: int) -> None:
        print(f"\r          {done} of {total} steps", end="", flush=True)
        self._open = True


def _history(running: Any, say: _Progress) -> None:
    """Materialize everything for January to October, unless that has been done."""
    if running.has_made(PROBLEM, "performance_report"):
        say.line("January to October are made already")
        return
    say.line("job everything: files, features, models, reports, 304 days at once")
    days = {
        "dagster/asset_partition_range_start": FIRST_DAY.isoformat(),
        "dagster/asset_partition_range_end": HISTORY_END.isoformat(),
    }
    running.run("everything", days, say.steps)


def _week(root: Path, running: Any, say: _Progress, number: int, last: date) -> None:
    """Deliver a week and wait until the sensor's runs have taken it in."""
    from ml_assets.resources.environment import resources
    from ml_assets.resources.overview import headline

    places = resources(root)["landing"].open()
    known = any(entry.partition == keys.day(last) for entry in places.ledger.entries())
    deliver(root, last, faults=number == FAULTY_WEEK and not known)
    _wait(lambda: running.idle() and not places.ledger.unseen(places.landing.objects()), f"the week up to {last}")
    say.line(f"week {number} of {len(weeks())}, up to {last}: {headline(root, PROBLEM)}")
    _ask(root)


def _is_pulled(root: Path) -> bool:
    """Tell whether the weather needs no pull by now: a run of the sensor that began later would be cut off by the demo's end."""
    from ml_assets.collection.pull import state_of
    from ml_assets.resources.environment import resources

    places = resources(root)
    pulled_at = state_of(places["lake"].open().store, PULLED).pulled_at
    return pulled_at is None or places["clock"].open().now() < pulled_at + PULLED_AGAIN


def _ask(root: Path) -> None:
    """Let people ask the feature server what each problem's first observations of its last day asked, as of now; it is logged."""
    from ml_assets.resources.environment import resources

    found = resources(root)
    lake = found["lake"].open()
    for problem, service in SERVICES.items():
        table = keys.problem(problem, "observations")
        asked = lake.read(table, lake.partitions(table)[-1:]).head(TRAVELLERS)
        found["feature_store"].answer(service, asked, clock=found["clock"].open().now)


def _summary(told: str, url: str, ui: bool, seconds: float) -> None:
    print(f"\n{told}\n")
    where: Sequence[tuple[str, str]] = [
        ("the asset graph", f"{url}/asset-groups" if ui else "make ui, then http://127.0.0.1:3000/asset-groups"),
        ("the evaluation reports", "data/reports/*/evaluation_report.html"),
        ("the drift reports", "data/reports/*/drift/"),
        ("the experiments", ".venv/bin/mlflow ui --host 127.0.0.1 --backend-store-uri sqlite:///data/mlflow.db"),
        ("the state, for programs", ".venv/bin/ml-assets status --json"),
    ]
    for what, place in where:
        print(f"  {what:<24} {place}")
    print(f"\nmade in {seconds / 60:.1f} minutes" + ("; Ctrl-C ends the web UI" if ui else ""), flush=True)


def _wait(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WEEK_TIMEOUT
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{what} was not taken in within {WEEK_TIMEOUT:.0f} s; look at the sensor's ticks in the web UI"
            )
        time.sleep(0.5)


def _log(root: Path) -> Path:
    return root / "data" / "dagster" / "dev.log"


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
