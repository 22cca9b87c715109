"""Retraining in Dagster, over a lake and a registry on disk: the decision, and the sensor and the schedule that follow it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.test_utils import create_run_for_test

from ml_assets.lake import Store
from ml_assets.monitoring.retrain_assets import (
    CADENCE,
    CARRIES_OUT,
    DECIDED,
    TRAINS,
    decision_asset,
    due,
    longest_pause,
    retrain_schedule,
    retrain_sensor,
    staleness_asset,
    training_run,
)
from ml_assets.monitoring.retraining import Decision, decisions, enter
from ml_assets.packaging.history import Promotion, record
from ml_assets.problem import MlProblem
from ml_assets.resources.evidence import UNDECIDED
from ml_assets_tests.versions.small import DAYS, START, World, problem, trained, visits

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow warns at import time

DAY = timedelta(days=1)
LATER = 20  # days after the training, in which who stays long no longer comes back
PROBLEM = problem(retrain={"window_days": 6, "cooldown": "2d", "weeks": 2})


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a world with a champion of 20 days, after 20 days in which all was the other way round."""
    world = trained(tmp_path_factory.mktemp("aged"))
    for day in range(DAYS, DAYS + LATER):
        world.deliver(day, visits(day).with_columns(label=1 - pl.col("label")))
    world.observe(DAYS + LATER - 1)
    return world


@pytest.fixture
def world(aged: World, tmp_path: Path) -> World:
    """Return that world with a lake of the test's own."""
    shutil.copytree(aged.lake.url, tmp_path / "lake")
    return World(aged.folder, tmp_path / "lake")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Return an instance on disk, which a schedule's context wants."""
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as made:
        yield made


def lost(world: World, *values: float, at: datetime | None = None) -> None:
    """Store a performance report with these weeks."""
    frame = pl.DataFrame(
        {
            "start": [START + (DAYS + 7 * week) * DAY for week in range(len(values))],
            "status": ["realised"] * len(values),
            "roc_auc": values,
        }
    )
    world.lake.write("returns/performance_report", frame, written_at=at or world.clock.now())


def decided(world: World, instance: dg.DagsterInstance, declared: MlProblem = PROBLEM) -> dict[str, Any]:
    """Materialize the decision, and return its metadata and its check."""
    made = dg.materialize([decision_asset(declared)], resources=world.resources, instance=instance)
    (event,) = made.asset_materializations_for_node("returns__retrain_decision")
    (check,) = made.get_asset_check_evaluations()
    assert check.check_name == DECIDED and check.severity is dg.AssetCheckSeverity.WARN
    told = {name: value.value for name, value in event.metadata.items()}
    return told | {"passed": check.passed, "undecided": UNDECIDED in check.metadata}


def ticked(world: World, instance: dg.DagsterInstance) -> Any:
    with dg.build_sensor_context(instance=instance, resources={"lake": world.resources["lake"]}) as context:
        return retrain_sensor(PROBLEM)(context)


def scheduled(world: World, instance: dg.DagsterInstance) -> Any:
    found = {name: world.resources[name] for name in ("lake", "clock")}
    with dg.build_schedule_context(instance=instance, resources=found) as context:
        return retrain_schedule(PROBLEM)(context)


def test_without_a_loss_nothing_is_decided_and_nothing_follows(world: World, instance: dg.DagsterInstance) -> None:
    told = decided(world, instance)
    assert (told["decision"], told["passed"], told["triggers"]) == ("quiet", True, "none")
    assert told["decisions"] == "nothing was decided yet" and "backtest" not in told
    assert "nothing was decided yet" in ticked(world, instance).skip_message


def test_a_loss_that_persists_is_answered_by_a_backtest_and_followed_once(
    world: World, instance: dg.DagsterInstance
) -> None:
    lost(world, 0.2, 0.2)
    told = decided(world, instance)
    assert (told["decision"], told["retrain"], told["passed"]) == ("retrain", True, True)
    assert "realised loss: roc_auc 0.2, 0.2 in the last 2 weeks" in told["reason"]
    assert "a retrained model would be" in told["reason"] and "better by roc_auc on the last 6 days" in told["reason"]
    assert told["backtest low"] > 0.3 and told["backtest rows"] == 6 * 40 and "data:image/png" in told["backtest"]
    assert decided(world, instance)["decisions"] == told["decisions"], "the same is decided once"
    (made,) = decisions(world.lake.store, "returns")
    request = ticked(world, instance)
    assert request.run_key == made.id and request.tags == {CARRIES_OUT: made.id, TRAINS: "returns"}
    create_run_for_test(instance, tags=request.tags, status=dg.DagsterRunStatus.STARTED)
    assert "trains already" in ticked(world, instance).skip_message
    lost(world, 0.2, 0.1)
    assert "trains already" in decided(world, instance)["reason"]


def test_what_was_carried_out_is_not_carried_out_again(world: World, instance: dg.DagsterInstance) -> None:
    lost(world, 0.2, 0.2)
    decided(world, instance)
    (made,) = decisions(world.lake.store, "returns")
    create_run_for_test(instance, tags={CARRIES_OUT: made.id}, status=dg.DagsterRunStatus.FAILURE)
    assert "decision 1 was carried out by run" in ticked(world, instance).skip_message
    lost(world, 0.2, 0.1)
    told = decided(world, instance)
    assert told["decision"] == "waiting" and "retrain.cooldown is 2 days" in told["reason"]


def test_what_a_new_model_would_not_do_better_is_kept_with_the_numbers(
    world: World, instance: dg.DagsterInstance
) -> None:
    lost(world, 0.2, 0.2)
    told = decided(world, instance, problem(retrain={"window_days": 6, "least_gain": 1.0}))
    assert (told["decision"], told["passed"]) == ("kept", True) and told["backtest gain"] > 0.3
    assert "there is no decision to retrain; last: realised loss" in ticked(world, instance).skip_message


def test_too_few_labels_are_undecided_and_no_pass(world: World, instance: dg.DagsterInstance) -> None:
    lost(world, 0.2, 0.2)
    told = decided(world, instance, problem(retrain={"window_days": 2}))
    assert (told["decision"], told["passed"], told["undecided"]) == ("undecided", False, True)
    assert "too few labelled rows" in told["reason"] and not told["retrain"]


def test_a_report_on_the_model_before_asks_nothing(world: World, instance: dg.DagsterInstance) -> None:
    lost(world, 0.2, 0.2, at=START)
    assert decided(world, instance)["decision"] == "quiet"


def test_the_schedule_decides_too_and_holds_the_cooldown(world: World, stored: dg.DagsterInstance) -> None:
    instance, request = stored, scheduled(world, stored)
    (made,) = decisions(world.lake.store, "returns")
    assert request.run_key == made.id and (made.scheduled, made.who) == (True, "schedule returns_retrain")
    assert "which carries it out itself" in ticked(world, instance).skip_message, "two would train for one decision"
    assert scheduled(world, instance).run_key == made.id, "the same observations are learned once"
    lost(world, 0.2, 0.2)
    assert decided(world, instance)["decision"] == "waiting"
    world.lake.write(
        "returns/observations", world.lake.read("returns/observations"), partition="2024-03-01", written_at=START
    )
    assert "retrain.cooldown is 2 days" in scheduled(world, instance).skip_message


def test_runs_of_others_are_no_training(instance: dg.DagsterInstance) -> None:
    create_run_for_test(instance, job_name="update", status=dg.DagsterRunStatus.STARTED)
    create_run_for_test(instance, job_name="train", status=dg.DagsterRunStatus.SUCCESS)
    other = frozenset({dg.AssetKey(["other", "challenger"])})
    create_run_for_test(instance, asset_selection=other, status=dg.DagsterRunStatus.STARTING)
    assert training_run(instance, PROBLEM) == ""
    own = frozenset({dg.AssetKey(["returns", "challenger"])})
    run = create_run_for_test(instance, asset_selection=own, status=dg.DagsterRunStatus.STARTING)
    assert training_run(instance, PROBLEM) == f"run {run.run_id[:8]}"
    instance.delete_run(run.run_id)
    assert training_run(instance, PROBLEM) == ""
    create_run_for_test(instance, job_name="everything", status=dg.DagsterRunStatus.NOT_STARTED)
    assert training_run(instance, PROBLEM).startswith("run ")


def test_too_little_history_has_no_curve_and_no_pass(world: World, instance: dg.DagsterInstance) -> None:
    made = dg.materialize([staleness_asset(PROBLEM)], resources=world.resources, instance=instance)
    (check,) = made.get_asset_check_evaluations()
    assert (check.check_name, check.passed, UNDECIDED in check.metadata) == (CADENCE, False, True)
    assert check.description == "too little history: outcomes of 39 days are known, about 168 are needed"
    assert world.lake.manifest("returns/staleness_curve") is None


def test_the_longest_pause_of_a_schedule() -> None:
    assert [longest_pause(cron).days for cron in ("0 6 1 * *", "0 6 * * 1", "0 6 * * *")] == [31, 7, 1]


def test_a_decision_is_overtaken_by_a_later_one_and_by_whoever_took_office(tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    def settle(day: int, outcome: Any) -> Decision:
        made = Decision("returns", START + day * DAY, outcome == "retrain", f"day {day}", outcome=outcome, key=f"{day}")
        return enter(store, "returns", lambda _: made)

    first = settle(1, "retrain")
    assert due(PROBLEM, store) == first
    settle(2, "waiting")
    assert due(PROBLEM, store) == first, "who waits decided nothing"
    settle(3, "kept")
    assert due(PROBLEM, store) == "there is no decision to retrain; last: day 3"
    assert due(PROBLEM, store) != settle(9, "retrain") == due(PROBLEM, store)
    office = Promotion("returns", "2", "abc", "1", "1", "ada", START + 10 * DAY, "by hand")
    record(store, office, after=None)
    assert due(PROBLEM, store) == "version 2 took office after decision 4"
