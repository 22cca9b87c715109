"""The asset of an evaluation, run by Dagster over a lake, an experiment and a registry on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets import keys
from ml_assets.development.experiment import Experiment
from ml_assets.evaluation.assets import declaration_of, evaluation_asset, gates_of
from ml_assets.lake import Lake
from ml_assets.problem import MlProblem
from ml_assets.resources.places import ClockResource, FilesResource, LakeResource, TrackingResource
from ml_assets_tests.evaluation import problems

# Evidently and what it imports warn at import time
pytestmark = pytest.mark.filterwarnings("ignore")

QUERY = "SELECT row, event_timestamp, label FROM clean_samples"
TASKS: dict[str, dict[str, Any]] = {
    "binary": {"kind": "classification", "positive": "benign"},
    "clustering": {"kind": "clustering", "clusters": [2, 4]},
}


def declared(kind: str, **more: Any) -> MlProblem:
    shares = {"by": "random", "train": 0.6, "validation": 0.2, "test": 0.2}
    attributes = {
        "name": "sample",
        "question": "What is it?",
        "task": TASKS[kind],
        "observations": {"key": ["row"], "query": QUERY},
        "split": shares,
        "features": {"service": "s", "views": [], "ignore": ["half"]},
        "search": {"trials": 0},
    }
    return MlProblem.resolve_from_dict(attributes | more)


def run(
    folder: Path, problem: MlProblem, made: Callable[[Path], tuple[Any, pl.DataFrame]]
) -> tuple[dg.ExecuteInProcessResult, Path]:
    subject, frame = made(folder / "candidates")
    lake = Lake(str(folder / "lake"))
    for part in ("training_set", "observations"):
        lake.write(keys.problem("sample", part), frame, written_at=problems.MADE_AT)
    experiment = Experiment(folder / "models", "sample", lake.manifest(keys.problem("sample", "training_set")).version)
    for result in subject.results:
        experiment.write(f"candidates/{result.name}", result.to_dict() | {"mlflow_run_id": "r"})
    experiment.write("challenger", subject.challenger.to_dict() | {"reason": subject.reason, "mlflow_run_id": "r"})
    found = dg.materialize(
        [evaluation_asset(problem)],
        resources={
            "lake": LakeResource(url=str(folder / "lake")),
            "models": FilesResource(root=str(folder / "models")),
            "reports": FilesResource(root=str(folder / "reports")),
            "tracking": TrackingResource(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts")),
            "clock": ClockResource(),
        },
        raise_on_error=False,
    )
    return found, folder / "reports/sample/evaluation_report.html"


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_the_asset_gives_report_page_and_gates(kind: str, tmp_path: Path) -> None:
    problem = declared(kind, candidates=["baseline", "linear"] if kind == "binary" else ["k_means"])
    found, page = run(tmp_path, problem, getattr(problems, kind))
    assert found.success
    event = found.asset_materializations_for_node("sample__evaluation_report")[0]
    assert "### Metrics" in event.metadata["report"].value
    assert page.is_file() and page.stat().st_size > 500_000
    assert [one.check_name for one in found.get_asset_check_evaluations()] == gates_of(problem)


@pytest.mark.slow
def test_a_failing_gate_is_red_and_blocks(tmp_path: Path) -> None:
    success = {"metric": "roc_auc", "at_least": 0.9999}
    problem = declared("binary", candidates=["baseline", "linear"], success=success)
    found, _ = run(tmp_path, problem, problems.binary)
    verdicts = {one.check_name: one for one in found.get_asset_check_evaluations()}
    assert not verdicts["success_threshold"].passed and verdicts["beats_baseline"].passed
    assert verdicts["success_threshold"].blocking


def test_a_clustering_has_no_gate_of_a_baseline() -> None:
    shared = {"success_threshold", "no_leak"}
    for kind, names in (("binary", shared | {"beats_baseline", "calibration"}), ("clustering", shared)):
        specs = evaluation_asset(declared(kind)).check_specs
        assert {one.name for one in specs} == names
        assert all(one.blocking for one in specs)


def test_the_declared_value_is_told_outcome_by_outcome() -> None:
    classes = {"kind": "classification", "classes": ["cat", "dog", "fox"]}
    told = declaration_of(declared("binary", task=classes, value={"right": 5, "wrong": {"cat": -9, "dog": -2}}))
    assert told["value of outcomes"] == "right 5, wrong cat -9, wrong dog -2"
