"""The assets of packaging over a lake, an experiment and a registry on disk: from the challenger to the model in office."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets import keys
from ml_assets.development.experiment import Experiment
from ml_assets.evaluation.challenge import examine
from ml_assets.lake import Lake
from ml_assets.packaging.assets import bundle_asset, champion_asset
from ml_assets.problem import MlProblem
from ml_assets.resources.places import ClockResource, FilesResource, LakeResource, TrackingResource
from ml_assets_tests.evaluation import problems

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow warns at import time

PROBLEM = MlProblem.resolve_from_dict(
    {
        "name": "sample",
        "question": "How far has it come in a year?",
        "task": {"kind": "regression"},
        "observations": {"key": ["half"], "query": "SELECT half, event_timestamp, label FROM clean_samples"},
        "split": {"by": "random", "train": 0.6, "validation": 0.2, "test": 0.2},
        "features": {"service": "s", "views": [], "ignore": ["row"]},
        "candidates": ["baseline", "linear"],
        "success": {"metric": "rmse"},
    }
)


def promoted(folder: Path, frame: pl.DataFrame, winner: str) -> dict[str, Any]:
    """Let a candidate of this training set be the challenger, pack it, and return what the asset `champion` says."""
    kind = PROBLEM.task.plain()
    subject = problems.subject(
        frame, problems.plan(frame, kind, "rmse"), folder / winner, ["baseline", winner][winner == "baseline" :]
    )
    lake, models = Lake(str(folder / "lake")), folder / "models"
    version = lake.write(keys.problem("sample", "training_set"), frame, written_at=problems.MADE_AT).version
    tracking = TrackingResource(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts"))
    run_id = tracking.open().log_candidate("sample", subject.challenger.result, tags={}, metric="rmse")
    experiment = Experiment(models, "sample", version)
    experiment.write("challenger", subject.challenger.to_dict() | {"reason": "", "mlflow_run_id": run_id})
    found = examine(subject, frame, made_at=problems.MADE_AT)
    experiment.write("evaluation_report", {"report": found.report.to_json()})
    resources = {
        "lake": LakeResource(url=str(folder / "lake")),
        "models": FilesResource(root=str(models)),
        "tracking": tracking,
        "clock": ClockResource(),
    }
    made = dg.materialize([bundle_asset(PROBLEM), champion_asset(PROBLEM)], resources=resources)
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
