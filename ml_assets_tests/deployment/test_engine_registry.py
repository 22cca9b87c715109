"""The engine over a real registry: promotions and rollbacks are taken up, a registry that goes away is not missed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import pytest

from ml_assets.deployment.admission import registered
from ml_assets.deployment.engine import CANARY, CHAMPION, Engine
from ml_assets.deployment.prediction_log import PredictionLog, predicted
from ml_assets.deployment.trial import ServingPolicy
from ml_assets.development.tracking import Tracking
from ml_assets.lake import Lake
from ml_assets.packaging.champion import tags_of
from ml_assets.packaging.office import promote, register, rollback
from ml_assets.packaging.promotion import Decision
from ml_assets_tests.deployment.test_admission import Make, make, rows_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow warns at import time

NOW = datetime(2013, 11, 3, 12, tzinfo=UTC)

__all__ = ["make"]


def until(true: Callable[[], bool], seconds: float = 20) -> float:
    """Wait until something is true, and return how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - began


def test_from_promotion_to_rollback_without_a_request_that_fails(make: Make, tmp_path: Path) -> None:
    tracking = Tracking(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"))
    lake = Lake(str(tmp_path / "lake"))
    tags = tags_of(data_hash="abc", fitted_until=NOW, live_from=NOW, test_metrics={}, reason="")

    def candidate(name: str) -> str:
        made = make(name=name)
        return register(tracking, "late", run_id="", folder=made.folder, digest=made.digest, tags=tags)

    def takes_office(version: str) -> None:
        decided = promote(
            tracking, lake.store, "late", version, decide=lambda _: Decision(True, "better"), who="test", when=NOW
        )
        assert decided.promoted

    first = candidate("linear")
    takes_office(first)
    log = PredictionLog(lake.url, "late", tmp_path / "spool", clock=lambda: NOW)
    offices = registered(tracking, "late", cache=tmp_path / "cache", store=lake.store)
    engine = Engine(
        offices,
        problem="late",
        lake_url=lake.url,
        clock=lambda: NOW,
        log=log,
        policy=ServingPolicy(canary=0.5),
        refresh_seconds=0.1,
    ).start()
    rows = rows_of(engine.current)[:1] if engine.current else []
    looks = []
    for _ in range(10):
        began = time.perf_counter()
        offices()
        looks.append(time.perf_counter() - began)
    assert engine.answer(rows).version == first

    second = candidate("random_forest")
    tried = until(lambda: engine.state()["trial"] is not None)
    asked = [engine.answer(rows, entities=[{"flight": number}]) for number in range(100)]
    arms = [(one.arm, one.version) for one in asked]
    assert set(arms) == {(CHAMPION, first), (CANARY, second)} and 25 < arms.count((CANARY, second)) < 75

    takes_office(second)
    promoted = until(lambda: engine.answer(rows).version == second)
    rollback(tracking, lake.store, "late", who="test", when=NOW, why="rehearsed")
    back = until(lambda: engine.answer(rows).version == first)
    print(
        f"taken up: trial {tried:.2f} s, promotion {promoted:.2f} s, rollback {back:.2f} s; a look {median(looks):.4f} s"
    )

    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("ALTER TABLE registered_model_aliases RENAME TO away")
    until(lambda: engine.state()["registry"] != {})
    print(engine.state()["registry"]["reason"].splitlines()[0])
    assert engine.answer(rows).version == first
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("ALTER TABLE away RENAME TO registered_model_aliases")
    until(lambda: engine.state()["registry"] == {})
    engine.close()
    kept = predicted(lake.url, "late")
    assert kept is not None
    assert set(kept.collect()["model_version"]) == {first, second}
