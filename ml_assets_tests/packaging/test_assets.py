"""The assets of packaging over a lake, an experiment and a registry on disk: from the challenger to the model in office."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets import keys
from ml_assets.development.assets import SETTLED
from ml_assets.development.experiment import Experiment
from ml_assets.development.origin import settled
from ml_assets.evaluation.challenge import examine
from ml_assets.evaluation.report import EvaluationReport, interval, number
from ml_assets.lake import Lake
from ml_assets.packaging.assets import (
    EVALUATION,
    approve_version,
    bundle_asset,
    champion_asset,
    evaluation_of,
    model_card_asset,
    promote_version,
    write_card,
)
from ml_assets.problem import MlProblem
from ml_assets.resources.places import ClockResource, FilesResource, LakeResource, TrackingResource
from ml_assets_tests.evaluation import problems

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow warns at import time

DECLARED: dict[str, Any] = {
    "name": "sample",
    "question": "How far has it come in a year?",
    "task": {"kind": "regression"},
    "observations": {"key": ["half"], "query": "SELECT half, event_timestamp, label FROM clean_samples"},
    "split": {"by": "random", "train": 0.6, "validation": 0.2, "test": 0.2},
    "features": {"service": "s", "views": [], "ignore": ["row"]},
    "candidates": ["baseline", "linear"],
    "success": {"metric": "rmse"},
}
PROBLEM = MlProblem.resolve_from_dict(DECLARED)
APPROVED = MlProblem.resolve_from_dict(DECLARED | {"promotion": {"approval": True}})
ASSETS = (bundle_asset, champion_asset, model_card_asset)
ORIGIN = {"git_commit": "abcdef", "inputs": json.dumps({"clean/samples": "5a5a"}), "as_known_at": "2013-11-01"}
SECTIONS = (
    "Question",
    "Standing",
    "Data",
    "Features",
    "Candidates and search",
    "Metrics",
    "Slices",
    "Calibration",
    "Explanation",
    "Gates and decision",
    "Approval",
    "Limits",
    "How to reproduce",
)


def places(folder: Path) -> dict[str, Any]:
    """Return the resources of a platform in a folder."""
    return {
        "lake": LakeResource(url=str(folder / "lake")),
        "models": FilesResource(root=str(folder / "models")),
        "reports": FilesResource(root=str(folder / "reports")),
        "tracking": TrackingResource(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts")),
        "clock": ClockResource(),
    }


def promoted(folder: Path, frame: pl.DataFrame, winner: str, problem: MlProblem = PROBLEM) -> dict[str, Any]:
    """Let a candidate of this training set be the challenger, pack it, and return what the asset `champion` says."""
    kind, resources = problem.task.plain(), places(folder)
    subject = problems.subject(
        frame, problems.plan(frame, kind, "rmse"), folder / winner, ["baseline", winner][winner == "baseline" :]
    )
    lake = Lake(str(folder / "lake"))
    version = lake.write(keys.problem("sample", "training_set"), frame, written_at=problems.MADE_AT).version
    result, tracking = subject.challenger.result, resources["tracking"].open()
    told = settled(winner, subject.results)
    run_id = tracking.log_candidate("sample", result, tags=ORIGIN, metric="rmse", texts={SETTLED: told})
    experiment = Experiment(folder / "models", "sample", version)
    experiment.write("challenger", subject.challenger.to_dict() | {"reason": "", "mlflow_run_id": run_id})
    found = examine(subject, frame, made_at=problems.MADE_AT, slices=["half"])
    gates = [{"name": "success_threshold", "passed": True, "reason": "no threshold is declared"}]
    explanation = {"importance": {"metric": "rmse", "losses": {"bmi": 3.25}, "intervals": {"bmi": [1.5, 5.0]}}}
    experiment.write(
        "evaluation_report", {"report": found.report.to_json(), "gates": gates, "explanation": explanation}
    )
    made = dg.materialize([asset(problem) for asset in ASSETS], resources=resources, raise_on_error=False)
    if not made.success:
        return {one.check_name: one.passed for one in made.get_asset_check_evaluations()}
    metadata = made.asset_materializations_for_node("sample__champion")[0].metadata
    return {name: value.value for name, value in metadata.items()}


def test_a_better_challenger_takes_office_also_where_each_key_was_asked_about_before(tmp_path: Path) -> None:
    frame = problems.loaded("diabetes")
    first = promoted(tmp_path, frame, "baseline")
    assert (first["promoted"], first["version"]) == (True, "1")
    second = promoted(tmp_path, frame, "linear")
    assert (second["promoted"], second["version"]) == (True, "2") and second["test rmse"] < first["test rmse"]
    again = promoted(tmp_path, frame, "baseline")
    assert (again["promoted"], again["version"]) == (False, "2") and again["test rmse"] == second["test rmse"]
    assert again["challenger"] == "1", "the same bundle is the same version"
    assert [line.split(" | ")[0] for line in again["history"].splitlines()[2:]] == ["| 2", "| 1"]
    assert "**was in office**" in (tmp_path / "reports" / "sample" / "model_card" / "1.md").read_text()


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A problem whose promotions a person must approve, after its first run; and what the asset `champion` said."""
    folder = tmp_path_factory.mktemp("waiting")
    return folder, promoted(folder, problems.loaded("diabetes"), "linear", APPROVED)


def test_without_approval_the_run_is_green_and_nobody_takes_office(waiting: Any) -> None:
    folder, told = waiting
    assert (told["promoted"], told["version"], told["challenger"]) == (False, "none", "1")
    assert "waits for approval: ml-assets approve sample:1 --by NAME --why TEXT" in told["reason"]
    registry = places(folder)["tracking"].open()
    assert registry.aliases("sample") == {"challenger": "1"}
    assert "waits for approval" in registry.version("sample", "1").tags["refused_because"]


def test_the_card_tells_what_was_measured(waiting: Any) -> None:
    folder, _ = waiting
    text, page = (
        (folder / "reports" / "sample" / "model_card" / f"1.{ending}").read_text() for ending in ("md", "html")
    )
    for title in SECTIONS:
        assert f"\n## {title}\n" in text and f"<h2>{title}</h2>" in page
    registry = places(folder)["tracking"].open()
    ref = registry.version("sample", "1")
    report = EvaluationReport.from_json(evaluation_of(registry, ref)["report"])
    for name, value in report.metrics.items():
        assert f"| {name} | {number(value)} | {interval(report.intervals.get(name))} |" in text
    assert f"| half | odd | {next(row for row in report.slices if row['value'] == 'odd')['rows']} |" in text
    assert "| bmi | 3.25 | 1.5 to 5 | - |" in text and "| bmi | Float64 |" in text
    assert "- How far has it come in a year?" not in text and "How far has it come in a year?" in text
    assert ref.tags["bundle_digest"] in text and ref.tags["data_hash"] in text
    assert "git checkout abcdef\nml-assets rebuild sample:1" in text
    assert "- clean/samples" not in text and "snapshot of clean/samples: 5a5a" in text
    assert "**refused**" in text and "hyperparameters of linear" in text
    assert page.count("data:image/png;base64,") >= 3 and "http" not in page.replace("http-equiv", "")
    assert registry.text(ref.run_id, "model_card.md") == text


def test_after_the_approval_it_is_promoted_without_a_retrain_and_an_approval_of_other_hashes_is_void(
    waiting: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(waiting[0], folder)
    who: dict[str, Any] = {"who": "ada", "when": problems.MADE_AT}
    where = {name: places(folder)[name] for name in ("lake", "tracking")}
    registry = where["tracking"].open()
    approve_version(APPROVED, "", why="read the card", **who, **where)
    ref, before = registry.version("sample", "1"), evaluation_of(registry, registry.version("sample", "1"))
    report = before["report"].replace('"rows": ', '"rows": 1', 1)
    registry.log_text(ref.run_id, EVALUATION, json.dumps(before | {"report": report}))
    refused = promote_version(APPROVED, "", **who, **where)
    assert not refused.promoted and "is void: evaluation changed since" in refused.decision.reason
    registry.log_text(ref.run_id, EVALUATION, json.dumps(before))
    found = promote_version(APPROVED, "", why="after the approval", **who, **where)
    assert found.promoted and found.office.approval["who"] == "ada" and registry.aliases("sample") == {"champion": "1"}
    card, _ = write_card(APPROVED, "1", now=problems.MADE_AT, reports=places(folder)["reports"], **where)
    assert card.standing == "in office"


def test_a_red_gate_of_the_evaluation_is_asked_by_hand_too_unless_forced(waiting: Any, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(waiting[0], folder)
    who: dict[str, Any] = {"who": "ada", "when": problems.MADE_AT}
    where = {name: places(folder)[name] for name in ("lake", "tracking")}
    registry = where["tracking"].open()
    ref = registry.version("sample", "1")
    told = evaluation_of(registry, ref)
    red = {"name": "no_leak", "passed": False, "reason": "label known"}
    registry.log_text(ref.run_id, EVALUATION, json.dumps(told | {"gates": [red]}))
    found = promote_version(APPROVED, "1", **who, **where)
    assert not found.promoted and found.decision.reason == "gate no_leak: label known"
    forced = promote_version(APPROVED, "1", why="the old one is down", force=True, **who, **where)
    assert forced.promoted and (forced.office.kind, forced.office.who) == ("forced", "ada")


def test_a_slow_model_turns_the_bundle_red_and_stands_for_office_neither_in_the_run_nor_by_hand(tmp_path: Path) -> None:
    budget = {"most_milliseconds": 1e-9}
    slow = MlProblem.resolve_from_dict(DECLARED | {"promotion": budget})
    assert promoted(tmp_path, problems.loaded("diabetes"), "baseline", slow) == {"parity": True, "budget": False}
    where = {name: places(tmp_path)[name] for name in ("lake", "tracking")}
    assert where["tracking"].open().aliases("sample") == {"challenger": "1"}, "it is registered, and refused"
    found = promote_version(slow, "", who="ada", when=problems.MADE_AT, **where)
    assert not found.promoted and found.decision.reason.startswith("gate budget: one row takes")
