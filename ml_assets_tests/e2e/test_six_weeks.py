"""Six weeks of real flights through the real thing: daemon, sensor, jobs, web server, on a copy of the project.

The copy declares shorter splits, as a user would: some lines of YAML.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ml_assets.resources.process import prepare

REPOSITORY = Path(__file__).parents[2]
COPIED = ("ml_assets", "feature_repo", "pyproject.toml", "dagster.yaml", "workspace.yaml", "README.md", "LICENSE")
MONTHS, WEEKS = "train: 8mo, validation: 1mo, test: 1mo", "train: 3w, validation: 7d, test: 7d"
SEARCH = {"search: {trials: 6}": "search: {trials: 2}"}
# Three weeks of January teach less than eight months: the gates of the example would block.
CHANGES = {
    "delay": {MONTHS: WEEKS, "at_least: 0.68": "at_least: 0.6", "worst_slice: 0.6": "worst_slice: 0.1"} | SEARCH,
    "arrival_delay": {
        MONTHS: WEEKS,
        "at_most: 17.8, beats_baseline_by: 1.0": "at_most: 30",
        "worst_slice: 27": "worst_slice: 90",
    }
    | SEARCH,
    "airport_segments": {MONTHS: WEEKS, "at_least: 0.15": "at_least: 0.05"},
}
HISTORY, LIVE = date(2013, 2, 4), date(2013, 2, 11)
LABELS_KNOWN = timedelta(days=3)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a split of weeks instead of months, without data."""
    root = tmp_path_factory.mktemp("project")
    for name in COPIED:
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, root / name)
    (root / "data").mkdir()
    (root / "data" / "sample").symlink_to(REPOSITORY / "data" / "sample")
    for problem, changes in CHANGES.items():
        path = root / "ml_assets" / "defs" / "flights" / problem / "defs.yaml"
        declared = path.read_text()
        for old, new in changes.items():
            assert old in declared, (problem, old)
            declared = declared.replace(old, new)
        path.write_text(declared)
    return root


@pytest.fixture(scope="module")
def environ(project: Path) -> dict[str, str]:
    """The environment of every process of the copy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER", "ML_ASSETS"))}
    kept |= {"PYTHONPATH": str(project), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    prepare(kept, project)
    return kept


@pytest.fixture(scope="module")
def outcome(project: Path, environ: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Drive the six weeks in a process of the copy; give the state that `ml-assets status --json` prints afterwards."""
    driven = run([sys.executable, "-m", "ml_assets_driver"], project, environ, driver=True)
    assert driven.returncode == 0, driven.stdout + driven.stderr
    told = run([sys.executable, "-m", "ml_assets.cli", "status", "--json"], project, environ)
    assert told.returncode == 0, told.stderr
    yield json.loads(told.stdout)


def run(
    command: list[str], project: Path, environ: dict[str, str], *, driver: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command in the copy."""
    if driver:
        shutil.copy(Path(__file__).with_name("drive.py"), project / "ml_assets_driver.py")
    return subprocess.run(command, cwd=project, env=environ, text=True, capture_output=True, timeout=500, check=False)


def test_every_asset_was_made_and_none_is_red(outcome: dict[str, Any]) -> None:
    missing = [
        name
        for name, asset in outcome["assets"].items()
        if not asset["materialized"] and not name.endswith("/staleness_curve")  # monthly, and no job's
    ]
    red = [name for name, asset in outcome["assets"].items() if asset["red"]]
    assert (missing, red) == ([], [])


def test_days_and_rows_are_those_that_were_delivered(outcome: dict[str, Any]) -> None:
    days = (LIVE - date(2013, 1, 1)).days + 1
    for name in ("raw/flights", "raw/weather", "clean/flights", "clean/weather", "flight_delay/observations"):
        assert outcome["assets"][name]["partitions"] == days, name
    assert outcome["assets"]["clean/flights"]["rows"] == outcome["assets"]["flight_delay/observations"]["rows"]
    assert outcome["assets"]["raw/planes"]["rows"] == 3322


def test_every_delivery_is_ledgered(outcome: dict[str, Any]) -> None:
    days = (LIVE - date(2013, 1, 1)).days + 1
    # Eight faults: six are refused, one is the same bytes again, one corrects a day (and supersedes its first delivery).
    assert outcome["ledger"] == {"ingested": 2 * days + 3, "quarantined": 6, "superseded": 1, "duplicate": 1}


def test_no_blocking_check_failed(outcome: dict[str, Any]) -> None:
    failed = {name for name, result in outcome["checks"]["not passed"].items() if "error" in result}
    assert failed == set()
    assert "raw/flights: files" in outcome["checks"]["not passed"]  # the broken files wait for a person


def test_the_champion_is_better_than_chance_and_no_leak(outcome: dict[str, Any]) -> None:
    metrics = outcome["problems"]["flight_delay"]["champion"]["test_metrics"]
    assert 0.6 < metrics["roc_auc"] < 0.85


def test_the_other_tasks_have_champions(outcome: dict[str, Any]) -> None:
    minutes = outcome["problems"]["arrival_delay"]["champion"]["test_metrics"]
    assert 5 < minutes["mae"] < 30
    assert outcome["problems"]["arrival_delay"]["realised"]["status"] == "realised"
    segments = outcome["problems"]["airport_segments"]
    assert 0.05 < segments["champion"]["test_metrics"]["silhouette"] < 0.9
    assert segments["realised"] is None  # there are no outcomes to wait for


def test_drift_and_realised_performance_are_reported(outcome: dict[str, Any]) -> None:
    problem = outcome["problems"]["flight_delay"]
    assert problem["drift"]["window"] == ["2013-02-06", "2013-02-12"]  # counted from the day after the test split
    assert problem["realised"]["status"] == "realised"
    assert problem["realised"]["pending"] == 0
    assert 0.5 < problem["realised"]["roc_auc"] < 0.9


def test_the_feature_server_took_a_push_and_answered_with_it(project: Path, outcome: dict[str, Any]) -> None:
    told = json.loads((project / "served.json").read_text())
    assert told["pushed"] == {"rows": 1, "new": 1, "views": ["origin_weather"]}
    values, statuses = told["answer"]["values"], told["answer"]["statuses"]
    assert values["temp"][0] == 41.0
    assert values["planned_speed"] == [1400.0 * 60 / 229.0, 1576.0 * 60 / 240.0]
    assert statuses["aircraft_spec"] == ["present", "missing"]
    assert "status" not in told["ready"], told["ready"]


def test_what_was_served_is_what_the_join_gives(outcome: dict[str, Any]) -> None:
    assert "flight_delay/served_requests: replayed" not in outcome["checks"]["not passed"]
    assert not [name for name in outcome["checks"]["not passed"] if name.endswith(": parity")]


def test_reports_and_models_are_files_without_pickle(project: Path, outcome: dict[str, Any]) -> None:
    reports = project / "data" / "reports" / "flight_delay"
    assert (reports / "evaluation_report.html").stat().st_size > 100_000
    assert (reports / "drift" / "2013-02-06.html").stat().st_size > 100_000
    suffixes = {path.suffix for path in (project / "data" / "models").rglob("*") if path.is_file()}
    assert suffixes & {".pkl", ".pickle", ".joblib"} == set()


def test_the_clock_is_the_replays(outcome: dict[str, Any]) -> None:
    assert datetime.fromisoformat(outcome["now"]) == datetime(2013, 2, 12, tzinfo=UTC) + LABELS_KNOWN
