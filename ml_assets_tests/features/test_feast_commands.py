"""`feature_repo/` is an ordinary Feast repository: Feast's own commands and servers work on it, as its users type them."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.features.retrieval import applied_repo
from ml_assets.lake import Lake
from ml_assets.resources.local import HOST, free_port
from ml_assets_tests.features.test_compiled import copied, rows_of

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2013, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=60)
CLI = [sys.executable, "-W", "ignore", "-c", "from feast.cli.cli import cli; cli()"]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SECONDS = 60

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of the repository that ships."""
    return copied(tmp_path_factory.mktemp("commands"))


@pytest.fixture(scope="module")
def planned(clone: Path) -> str:
    """What Feast says that it will do in the clone."""
    return feast(clone, "plan")


@pytest.fixture(scope="module")
def repo(clone: Path, planned: str) -> Path:
    """The clone, applied, over a filled lake."""
    (clone.parent / "data" / "replay_clock").write_text(NOW.isoformat())
    feast(clone, "apply")
    lake, rng = Lake(str(clone.parent / "data" / "lake")), random.Random(0)
    for view in applied_repo(clone).views.values():
        rows = rows_of(list(view.keys), list(view.features), rng)
        rows = pl.concat([rows, rows.head(30).with_columns(event_timestamp=NOW - timedelta(hours=1))])
        lake.write(f"features/{view.name}", rows.unique([*view.keys, "event_timestamp"]), written_at=START)
    return clone


def feast(repo: Path, *command: str) -> str:
    """Run a command and return what it printed, without colours."""
    done = subprocess.run(
        [*CLI, *command], cwd=repo, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return COLOUR.sub("", done.stdout)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@contextmanager
def serving(repo: Path, *command: str) -> Iterator[str]:
    """Run one of Feast's servers and give its address once it answers."""
    port = free_port()
    with (repo.parent / f"{command[0]}.log").open("w") as log:
        options = ["-h", HOST, "-p", str(port)]
        process = subprocess.Popen([*CLI, *command, *options], cwd=repo, env=environment(), stdout=log, stderr=log)
    try:
        url = f"http://{HOST}:{port}"
        deadline = time.monotonic() + SECONDS
        while asked(f"{url}/") is None:
            assert process.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.3)
        yield url
    finally:
        process.terminate()
        process.wait(SECONDS)


def asked(url: str, body: dict[str, Any] | None = None) -> bytes | None:
    """Return the answer, whatever its status; None while nobody listens."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return error.read()
    except (urllib.error.URLError, ConnectionError):
        return None


def test_plan_tells_what_a_fresh_clone_gets(planned: str) -> None:
    assert "Created feature service flight_delay_v2" in planned
    assert "Created on demand feature view departure_context" in planned


def test_plan_apply_and_the_two_ways_to_materialize(repo: Path) -> None:
    assert "No changes to registry" in feast(repo, "plan")
    first, last, end = (moment.strftime("%Y-%m-%dT%H:%M:%S") for moment in (START, NOW - timedelta(hours=2), NOW))
    feast(repo, "materialize", first, last)
    before = online(repo, "A")
    told = feast(repo, "materialize-incremental", end)
    assert f"carrier_history from {last.replace('T', ' ')}" in told
    assert online(repo, "A") != before  # the last hour came with the increment
    feast(repo, "materialize", first, last)
    assert online(repo, "A") != before  # and what is older does not replace it
    words = [word for name in asked_of(repo) for word in ("-f", name)]
    shown = feast(repo, "get-online-features", "-e", "carrier=A", *words)
    assert json.loads(shown[shown.index("{") :]) == online(repo, "A")


def online(repo: Path, carrier: str) -> Any:
    """Return what Feast's own store finds for a carrier, in this process."""
    from feast import FeatureStore

    return FeatureStore(repo_path=str(repo)).get_online_features(asked_of(repo), [{"carrier": carrier}]).to_dict()


def asked_of(repo: Path) -> list[str]:
    view = applied_repo(repo).views["carrier_history"]
    return [f"{view.name}:{feature}" for feature in view.features]


def test_serve_answers_and_takes_pushes(repo: Path) -> None:
    with serving(repo, "serve") as url:
        question = {"features": ["origin_weather:temp"], "entities": {"origin": ["PUSHED"]}}
        assert values(asked(f"{url}/get-online-features", question)) == [["PUSHED"], [None]]
        view = applied_repo(repo).views["origin_weather"]
        row = dict.fromkeys(view.features, 1.5) | {"origin": "PUSHED"}
        times = dict.fromkeys(("event_timestamp", "created_timestamp"), (NOW - timedelta(minutes=5)).isoformat())
        frame = {name: [value] for name, value in (row | times).items()}
        pushed = {"push_source_name": view.push_source, "df": frame, "to": "online_and_offline"}
        assert asked(f"{url}/push", pushed) in (b"", b"null")  # a refusal says why
        assert values(asked(f"{url}/get-online-features", question)) == [["PUSHED"], [1.5]]
    assert list((repo.parent / "data" / "lake" / "_pushed" / "features" / "origin_weather").rglob("*.parquet"))


def values(answer: bytes | None) -> list[Any]:
    assert answer is not None
    return [column["values"] for column in json.loads(answer)["results"]]


def test_ui_shows_the_repository(repo: Path) -> None:
    with serving(repo, "ui") as url:
        assert b"<html" in (asked(f"{url}/") or b"")
        found = asked(f"{url}/projects-list.json")
        assert b"ml_assets" in (found or b"")
