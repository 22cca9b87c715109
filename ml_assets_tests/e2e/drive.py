"""What the end-to-end test does in a process of the copied project: deliver, let the sensor work, train, deliver again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ml_assets.replay.api import weather_service
from ml_assets.replay.demo import deliver
from ml_assets.resources.clock import Clock
from ml_assets.resources.environment import resources, setting
from ml_assets.resources.local import HOST, LocalDagster, free_port, local_dagster

ROOT = Path(__file__).parent
HISTORY, LIVE = date(2013, 2, 4), date(2013, 2, 11)
LABELS_KNOWN = timedelta(days=3)
ASKED = {
    "carrier": ["UA", "B6"],
    "origin": ["EWR", "JFK"],
    "dest": ["IAH", "BQN"],
    "tailnum": ["N14228", "NOBODY"],
    "distance": [1400.0, 1576.0],
    "scheduled_duration": [229.0, 240.0],
    "planned_departures": [20.0, 12.0],
}


def main() -> None:
    """Drive the six weeks, telling the seconds of each part."""
    deliver(ROOT, HISTORY, now=_after(HISTORY))
    environ = {"ML_ASSETS_SENSOR_SECONDS": "1"}
    with (
        weather_service(ROOT, port=0),
        local_dagster(ROOT, port=free_port(), log=ROOT / "dev.log", environ=environ) as running,
    ):
        part("started")
        taken_in(running)
        part("sensor: five weeks ingested")
        running.run("train")
        part("trained")
        deliver(ROOT, LIVE, now=_after(HISTORY) + timedelta(days=7), faults=True)
        taken_in(running)
        part("sensor: sixth week, with faults")
        (ROOT / "served.json").write_text(json.dumps(served()))
        part("feature server: pushed and asked")
        Clock(setting("ML_ASSETS_REPLAY_CLOCK", ROOT)).set(_after(LIVE))
        running.run("monitor")
        part("monitored")


def served() -> dict[str, Any]:
    """Push a weather report to the feature server and ask for flights from that airport; return what it answered."""
    now, port = resources(ROOT)["clock"].open().now(), free_port()
    with (ROOT / "feature_server.log").open("w") as log:
        command = [sys.executable, "-m", "ml_assets.cli", "feature-server", "--port", str(port)]
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        wait(lambda: asked(port, "health") is not None, 60)
        pushed = asked(port, "push", {"push_source_name": "weather_reports", "rows": [report(now)]})
        answer = asked(port, "features/flight_delay_v2", {"entities": ASKED})
        return {"pushed": pushed, "answer": answer, "ready": asked(port, "ready")}
    finally:
        server.terminate()  # the log of what was served is written
        server.wait(60)


def report(now: datetime) -> dict[str, Any]:
    """Return a station's report of five minutes ago."""
    measured = dict.fromkeys(("dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"), 10.0)
    moment = (now - timedelta(minutes=5)).isoformat()
    return measured | {"origin": "EWR", "event_timestamp": moment, "temp": 41.0, "wind_gust": None}


def asked(port: int, path: str, body: dict[str, Any] | None = None) -> Any:
    """Return the server's answer; None while it does not listen."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{HOST}:{port}/{path}", data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return {"status": error.code, "answer": error.read().decode()}
    except OSError:
        return None


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
