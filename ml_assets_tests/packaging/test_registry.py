"""The office on MLflow's own registry, over SQLite: processes that race, one that is killed, and a rollback in seconds."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ml_assets.development.tracking import Tracking
from ml_assets.lake import Store
from ml_assets.packaging.champion import in_office, incumbent
from ml_assets.packaging.history import history
from ml_assets.packaging.office import rollback
from ml_assets_tests.packaging import race
from ml_assets_tests.packaging.offices import NOW, PROBLEM, registered, stand

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow warns at import time
REPOSITORY = Path(__file__).parents[2]
MOST_SECONDS = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tracking, Store, Path]:
    """A registry with a champion of score 0.5, and the version before it."""
    root = tmp_path_factory.mktemp("registry")
    tracking, store = Tracking(f"sqlite:///{root}/mlflow.db", f"{root}/artifacts"), Store(str(root / "lake"))
    for score in (0.4, 0.5):
        assert stand(tracking, store, root, score).promoted
    return tracking, store, root


def started(world: tuple[Tracking, Store, Path], version: str, score: float, *more: str) -> subprocess.Popen[str]:
    told = [str(world[2] / "mlflow.db"), world[1].url, version, str(score), str(world[2] / "meet"), *more]
    (world[2] / "meet").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", race.__name__, *told], cwd=REPOSITORY, text=True, stderr=subprocess.PIPE
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Return the exit status, and what there is to know when it is not 0."""
    _, errors = process.communicate(timeout=90)
    return process.returncode, errors if process.returncode else ""


def test_aliases_and_versions_are_mlflows(world: Any) -> None:
    tracking, _, root = world
    assert tracking.aliases(PROBLEM) == {"champion": "2", "previous": "1"} and tracking.aliases("nobody") == {}
    assert registered(tracking, root, 0.5) == "2" and len(tracking.versions(PROBLEM)) == 2
    assert tracking.registered_at(PROBLEM, "1").tzinfo is not None


def test_two_retrains_in_two_processes_never_leave_the_worse_and_one_that_is_killed_is_made_good(world: Any) -> None:
    tracking, store, root = world
    versions = {score: registered(tracking, root, score) for score in (0.7, 0.6, 0.8)}
    racing = [started(world, versions[score], score) for score in (0.7, 0.6)]
    assert [ended(one) for one in racing] == [(0, ""), (0, "")]
    assert in_office(tracking, PROBLEM, store=store).bundle.threshold == 0.7
    assert len(list((root / "meet").iterdir())) == race.RACERS, "both had looked before either decided"
    kept = [entry.who for entry in history(store, PROBLEM)[2:]]
    assert kept in (["process 0.7"], ["process 0.6", "process 0.7"]), "the worse came first, or not at all"
    assert ended(started(world, versions[0.8], 0.8, "die"))[0] == -signal.SIGKILL
    stale = incumbent(tracking, PROBLEM)
    assert stale is not None and stale.bundle.threshold == 0.7, "log and alias differ"
    assert in_office(tracking, PROBLEM, store=store).bundle.threshold == 0.8
    assert tracking.aliases(PROBLEM)["champion"] == versions[0.8]


def test_a_rollback_takes_seconds(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tracking, store, root = world
    if history(store, PROBLEM)[-1].version == "2":  # this test alone
        stand(tracking, store, root, 0.8)
    bad = history(store, PROBLEM)[-1]
    begun = time.monotonic()
    back = rollback(tracking, store, PROBLEM, who="on call", when=NOW, why="rehearsal")
    seconds = time.monotonic() - begun
    with capsys.disabled():
        print(f"\nrolled back from version {bad.version} to {back.version} in {seconds:.2f} s")
    assert seconds < MOST_SECONDS and back.version == bad.previous
    assert tracking.aliases(PROBLEM)["champion"] == back.version
