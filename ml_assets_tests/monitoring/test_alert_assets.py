"""Checks and runs that failed become alerts: with the plot, the numbers and the link; in an asset, and in the sensor."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest

from ml_assets.evaluation.plots import as_markdown
from ml_assets.lake import Store
from ml_assets.monitoring.alert_assets import alerts_asset, alerts_sensor, checked, ran
from ml_assets.monitoring.alerts import Subject, standing
from ml_assets.monitoring.channels import sent
from ml_assets.resources.evidence import UNDECIDED
from ml_assets.resources.partitions import CLOCK
from ml_assets.resources.places import ClockResource, LakeResource

NOW = datetime(2013, 6, 3, 7, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\nnot really"
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
SPEC = dg.AssetCheckSpec("no_drift", asset=["late", "drift_report"], description="The latest window has not drifted.")
STATE: dict[str, Any] = {}
"""What the report's check says, and whether the report fails."""


@dg.asset(key=["late", "drift_report"], check_specs=[SPEC], group_name="monitoring")
def report() -> dg.MaterializeResult:
    """A report with a plot, whose check says what the test told it."""
    if STATE.get("fails"):
        raise ValueError("no such column: temp")
    said = {"passed": False, "severity": WARN, "description": "drift: temp changed its unit"} | STATE
    return dg.MaterializeResult(
        metadata={
            "rows": 900,
            "latest window": "2013-05-27 to 2013-06-02",
            "long": "x" * 500,
            "effects": dg.MetadataValue.md(f"{as_markdown(PNG, 'drift')} and more"),
        },
        check_results=[dg.AssetCheckResult(check_name="no_drift", **said)],
    )


@dg.asset(key=["raw", "rides"], check_specs=[dg.AssetCheckSpec("files", asset=["raw", "rides"])])
def raw() -> dg.MaterializeResult:
    """A source with a file in quarantine."""
    return dg.MaterializeResult(
        check_results=[dg.AssetCheckResult(check_name="files", passed=False, severity=ERROR, description="1 waits.")]
    )


@dg.asset(key=["profiles", "late"], check_specs=[dg.AssetCheckSpec("fresh", asset=["profiles", "late"])])
def profiles() -> dg.MaterializeResult:
    """Profiles of a table of the problem, whose name does not begin with the problem's."""
    return dg.MaterializeResult(
        check_results=[dg.AssetCheckResult(check_name="fresh", passed=False, severity=WARN, description="too old")]
    )


PROBLEM = cast(Any, SimpleNamespace(name="late", owners=(), clock="replay"))
ALERTS = alerts_asset(PROBLEM, [report, profiles], after=[report])


@pytest.fixture(autouse=True)
def quiet_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "ML_ASSETS_ALERTS", "file")
    STATE.clear()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "clock").write_text(NOW.isoformat())
    return {"lake": LakeResource(url=str(tmp_path)), "clock": ClockResource(replay_file=str(tmp_path / "clock"))}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def run(instance: dg.DagsterInstance, places: dict[str, Any], *assets: Any) -> dict[str, Any]:
    """Materialize, and return the metadata of the asset of alerts."""
    done = dg.materialize([*assets], instance=instance, resources=places, raise_on_error=False)
    made = done.asset_materializations_for_node("late__alerts") if ALERTS in assets and done.success else []
    return {name: entry.value for name, entry in made[0].metadata.items()} if made else {}


def test_a_check_that_fails_is_an_alert_with_numbers_plot_and_link(
    instance: dg.DagsterInstance, places: dict[str, Any], store: Store
) -> None:
    found = run(instance, places, report, ALERTS)
    assert (found["sent now"], found["open"], found["failing now"]) == (1, 1, 1)
    (alert,) = sent(store, "late")
    assert alert.title == "late/drift_report: no_drift failed" and alert.severity == "warning" and alert.at == NOW
    assert alert.text == "drift: temp changed its unit. Expected: The latest window has not drifted."
    assert alert.numbers == {"rows": 900, "latest window": "2013-05-27 to 2013-06-02"}
    assert alert.plot == PNG
    assert alert.link == "http://127.0.0.1:3000/assets/late/drift_report?view=checks&checkDetail=no_drift"


def test_a_second_look_says_nothing_and_a_check_that_passes_resolves(
    instance: dg.DagsterInstance, places: dict[str, Any], store: Store
) -> None:
    run(instance, places, report, ALERTS)
    assert run(instance, places, report, ALERTS)["sent now"] == 0
    STATE.update(passed=True)
    assert run(instance, places, report, ALERTS)["open"] == 0
    run(instance, places, report, ALERTS)
    assert [one.resolved for one in sent(store, "late")] == [False, True]


def test_what_cannot_be_judged_is_a_note_and_an_error_is_an_error(
    instance: dg.DagsterInstance, places: dict[str, Any]
) -> None:
    STATE.update(metadata={UNDECIDED: True}, description="no window of predictions yet")
    run(instance, places, report)
    ((note,), _) = checked(instance, [SPEC], now=NOW, problem="late")
    assert note.severity == "note" and note.title == "late/drift_report: no_drift cannot be judged"
    STATE.clear()
    STATE.update(severity=ERROR, description=None)
    run(instance, places, report)
    ((alert,), _) = checked(instance, [SPEC], now=NOW, problem="late")
    assert alert.severity == "error" and alert.text.startswith("The check failed. ")


def test_a_check_that_never_ran_is_neither_red_nor_well(instance: dg.DagsterInstance) -> None:
    assert checked(instance, [SPEC], now=NOW, problem="late") == ([], [])


def test_a_run_that_failed_is_an_alert_until_its_job_succeeds(
    instance: dg.DagsterInstance, places: dict[str, Any]
) -> None:
    STATE["fails"] = True
    run(instance, places, report, ALERTS)
    ((alert,), well) = ran(instance, now=NOW)
    assert (alert.problem, alert.severity, well) == ("platform", "error", [])
    assert "step late__drift_report: ValueError: no such column: temp" in alert.text
    assert alert.link == f"http://127.0.0.1:3000/runs/{alert.numbers['run']}"
    STATE.clear()
    run(instance, places, report, ALERTS)
    assert ran(instance, now=NOW) == ([], [Subject("platform", "run", alert.key)])


def test_the_sensor_sees_problems_sources_and_runs_and_sends_what_the_asset_did_not(
    instance: dg.DagsterInstance, places: dict[str, Any], store: Store
) -> None:
    defs = dg.Definitions(assets=[report, profiles, raw, ALERTS], sensors=[alerts_sensor()], resources=places)
    repository = defs.get_repository_def()

    def tick() -> str:
        with dg.build_sensor_context(instance=instance, repository_def=repository, resources=places) as context:
            return str(repository.get_sensor_def("alerts").evaluate_tick(context).skip_message)

    assert tick() == "0 checks and runs failed; 0 alerts sent"
    run(instance, places, raw)
    run(instance, places, report, profiles, ALERTS)  # of these the asset has told
    assert len(sent(store, "late")) == 2
    assert tick() == "3 checks and runs failed; 1 alerts sent"
    STATE["fails"] = True
    run(instance, places, report)
    assert (
        tick() == "3 checks and runs failed; 1 alerts sent"
    )  # the check came to no result: the run that failed stands for it
    assert tick() == "3 checks and runs failed; 0 alerts sent"
    subjects = {(one.alert.problem, one.alert.kind): one.alert.severity for one in standing(store)}
    assert subjects == {("late", "check"): "warning", ("platform", "check"): "error", ("platform", "run"): "error"}


def test_the_sensor_takes_each_problems_own_clock(
    instance: dg.DagsterInstance, places: dict[str, Any], store: Store
) -> None:
    @dg.asset(key=["late", "observations"], metadata={CLOCK: "system"})
    def observations() -> None:
        """Its time is the system's, not the replay's."""

    defs = dg.Definitions(assets=[observations, report, raw, ALERTS], sensors=[alerts_sensor()], resources=places)
    repository = defs.get_repository_def()
    run(instance, places, report, raw)
    with dg.build_sensor_context(instance=instance, repository_def=repository, resources=places) as context:
        repository.get_sensor_def("alerts").evaluate_tick(context)
    assert sent(store, "late")[0].at > NOW and sent(store, "platform")[0].at == NOW


def test_the_address_of_the_web_ui_is_a_setting(
    instance: dg.DagsterInstance, places: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_ASSETS_UI_URL", "https://dagster.example/ml/")
    run(instance, places, report)
    ((alert,), _) = checked(instance, [SPEC], now=NOW, problem="late")
    assert alert.link.startswith("https://dagster.example/ml/assets/late/drift_report?")


def test_every_alert_can_be_told_apart(instance: dg.DagsterInstance, places: dict[str, Any]) -> None:
    run(instance, places, report, raw)
    specs = [*report.check_specs, *raw.check_specs]
    alerts, _ = checked(instance, specs, now=NOW, problem="late")
    assert len({dataclasses.astuple(alert.subject) for alert in alerts}) == 2
