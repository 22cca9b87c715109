"""A problem is run in this process: what is made is told line by line, and what went wrong in the message."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.resources.clock import Clock
from ml_assets.resources.partitions import CLOCK, daily
from ml_assets.resources.running import RunError, run_problem

DAYS = "2013-01-01/2013-12-31"


class Fault(ValueError):
    """What a broken step raises."""


@pytest.fixture(autouse=True)
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance of its own, in which runs can be looked up."""
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("ML_ASSETS_REPLAY_CLOCK", str(tmp_path / "clock"))
    monkeypatch.setenv("ML_ASSETS_REPORTS", str(tmp_path / "reports"))
    with dg.DagsterInstance.get() as found:
        yield found


def declared(
    *, fault: str = "", days: str | None = None, clock: str = "system", passed: bool = True, blocking: bool = True
) -> dg.Definitions:
    """Return two problems, of which `churn` reads a table that may have days, and has a check that may fail."""

    @dg.asset(
        key=["churn", "observations"],
        metadata={CLOCK: clock},
        partitions_def=daily(days) if days else None,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec("expectations", asset=["churn", "observations"], blocking=True)],
    )
    def observations() -> dg.MaterializeResult:
        if fault:
            raise Fault(f"{fault}\nand more lines of it")
        severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
        found = dg.AssetCheckResult(passed=passed, severity=severity, description="3 rows have no key")
        return dg.MaterializeResult(check_results=[found])

    @dg.asset(key=["churn", "evaluation_report"], deps=[observations])
    def evaluation_report() -> None: ...

    @dg.asset(key=["churn", "champion"], deps=[evaluation_report])
    def champion() -> None: ...

    @dg.asset(key=["other", "evaluation_report"])
    def other() -> None: ...

    job = dg.define_asset_job("everything", dg.AssetSelection.all())
    return dg.Definitions([observations, evaluation_report, champion, other], jobs=[job])


def made(instance: dg.DagsterInstance) -> set[str]:
    keys = instance.all_asset_keys()
    return {key.to_user_string() for key in keys if instance.get_latest_materialization_event(key)}


def test_all_that_the_report_needs_is_made_and_told(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    told: list[str] = []
    words = run_problem(declared(), tmp_path, "churn", tell=told.append)
    assert told == ["  1 of 2  churn/observations", "  2 of 2  churn/evaluation_report"]
    assert made(instance) == {"churn/observations", "churn/evaluation_report"}
    assert str(tmp_path / "reports" / "churn" / "evaluation_report.html") in words
    assert "make ui" in words
    (run,) = instance.get_runs()
    assert run.is_success  # and the web UI shows it


def test_a_problem_that_is_not_declared_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="problem 'chrun' is not declared; declared are churn, other"):
        run_problem(declared(), tmp_path, "chrun", tell=pytest.fail)
    with pytest.raises(RunError, match="declared are none"):
        run_problem(dg.Definitions(), tmp_path, "churn", tell=pytest.fail)


def test_a_failed_run_names_step_and_cause_and_where_to_look(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    told: list[str] = []
    with pytest.raises(RunError) as caught:
        run_problem(declared(fault="no file matches customers*.csv"), tmp_path, "churn", tell=told.append)
    (run,) = instance.get_runs()
    words = str(caught.value)
    assert words.startswith(f"run {run.run_id} failed: step churn__observations: ")
    assert "Fault: no file matches customers*.csv; `make ui` shows it at " in words
    assert words.endswith(f"/runs/{run.run_id}") and "more lines" not in words
    assert told == []


def test_a_blocking_check_stops_the_run_and_is_its_cause(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    told: list[str] = []
    with pytest.raises(RunError, match="check expectations of churn/observations: 3 rows have no key"):
        run_problem(declared(passed=False), tmp_path, "churn", tell=told.append)
    assert "  error: check expectations of churn/observations: 3 rows have no key" in told
    assert made(instance) == {"churn/observations"}


def test_a_warning_is_told_and_stops_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    run_problem(declared(passed=False, blocking=False), tmp_path, "churn", tell=told.append)
    assert "  warn: check expectations of churn/observations: 3 rows have no key" in told
    assert told[-1] == "  2 of 2  churn/evaluation_report"


# -- days --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "count"), [("2013-01-01/2013-12-31", 3), ("2013-01-02/2013-01-02", 1)])
def test_of_a_daily_table_all_days_up_to_now_are_made(
    tmp_path: Path, instance: dg.DagsterInstance, days: str, count: int
) -> None:
    Clock(tmp_path / "clock").set(datetime(2013, 1, 4, 12, tzinfo=UTC))
    run_problem(declared(days=days, clock="replay"), tmp_path, "churn", tell=print)
    found = instance.get_materialized_partitions(dg.AssetKey(["churn", "observations"]))
    assert len(found) == count and max(found) <= "2013-01-03"  # the day that is not over has no partition yet


def test_a_problem_of_the_systems_time_does_not_wait_for_the_replay(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    Clock(tmp_path / "clock").set(datetime(2013, 1, 4, 12, tzinfo=UTC))
    run_problem(declared(days="2020-02-01/2020-02-02"), tmp_path, "churn", tell=print)
    assert len(instance.get_materialized_partitions(dg.AssetKey(["churn", "observations"]))) == 2


def test_a_problem_whose_days_have_not_begun_says_so(tmp_path: Path) -> None:
    Clock(tmp_path / "clock").set(datetime(2012, 5, 1, tzinfo=UTC))
    words = "no declared day of churn has begun: now is 2012-05-01 00:00 UTC by clock 'replay'"
    with pytest.raises(RunError, match=words):
        run_problem(declared(days=DAYS, clock="replay"), tmp_path, "churn", tell=pytest.fail)
