"""Negative controls of the gates before promotion, through the assets: what errs too much or knows the future is never packed."""

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets import keys
from ml_assets.development.experiment import Experiment
from ml_assets.evaluation.assets import evaluation_asset
from ml_assets.evaluation.challenge import Subject
from ml_assets.lake import Lake
from ml_assets.packaging.assets import bundle_asset
from ml_assets.problem import MlProblem
from ml_assets.resources.places import ClockResource, FilesResource, LakeResource, TrackingResource
from ml_assets_tests.evaluation import problems

# Evidently and what it imports warn at import time
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

REPORT, BUNDLE = "sample/evaluation_report", "sample/bundle"


@pytest.fixture(scope="module")
def developed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lake and experiment of a regression whose challenger errs by about 55."""
    folder = tmp_path_factory.mktemp("regression")
    return keep(folder, *problems.regression(folder / "candidates"))


def keep(folder: Path, subject: Subject, frame: pl.DataFrame) -> Path:
    """Write what was developed to the folder's lake, experiment and registry; return the folder."""
    lake = Lake(str(folder / "lake"))
    written = [lake.write(keys.problem("sample", part), frame, written_at=problems.MADE_AT) for part in TABLES]
    experiment = Experiment(folder / "models", "sample", written[0].version)
    tracking = TrackingResource(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts")).open()
    run_id = tracking.log_candidate("sample", subject.challenger.result, tags={}, metric="rmse")
    for result in subject.results:
        experiment.write(f"candidates/{result.name}", result.to_dict() | {"mlflow_run_id": run_id})
    experiment.write("challenger", subject.challenger.to_dict() | {"reason": subject.reason, "mlflow_run_id": run_id})
    return folder


TABLES = ("training_set", "observations")


def declared(**success: Any) -> MlProblem:
    return MlProblem.resolve_from_dict(
        {
            "name": "sample",
            "question": "How far has it come in a year?",
            "task": {"kind": "regression"},
            "observations": {
                "key": ["row"],
                "query": "SELECT row, half, event_timestamp, label FROM clean_samples",
            },
            "split": {"by": "random", "train": 0.6, "validation": 0.2, "test": 0.2},
            "features": {"service": "s", "views": [], "ignore": ["half"]},
            "candidates": ["baseline", "linear"],
            "search": {"trials": 0},
            "success": {"metric": "rmse", **success},
        }
    )


def run(folder: Path, problem: MlProblem) -> tuple[dict[str, bool], set[str]]:
    """Evaluate and pack; return whether each check passed, and what was made."""
    found = dg.materialize(
        [evaluation_asset(problem), bundle_asset(problem)],
        resources={
            "lake": LakeResource(url=str(folder / "lake")),
            "models": FilesResource(root=str(folder / "models")),
            "reports": FilesResource(root=str(folder / "reports")),
            "tracking": TrackingResource(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts")),
            "clock": ClockResource(),
        },
        raise_on_error=False,
    )
    events = found.get_asset_materialization_events()
    made = {event.asset_key.to_user_string() for event in events if event.asset_key}
    return {one.check_name: one.passed for one in found.get_asset_check_evaluations()}, made


@pytest.mark.parametrize(
    ("success", "verdicts"),
    [
        ({"at_most": 70.0, "beats_baseline_by": 5.0}, (True, True)),
        ({"at_most": 30.0}, (False, True)),
        ({"beats_baseline_by": 60.0}, (True, False)),
    ],
    ids=["as good as declared", "an error above at_most", "hardly better than the baseline"],
)
def test_only_what_passes_both_gates_is_packed(
    developed: Path, success: dict[str, float], verdicts: tuple[bool, bool]
) -> None:
    found, made = run(developed, declared(**success))
    assert (found["success_threshold"], found["beats_baseline"]) == verdicts
    assert made == ({REPORT, BUNDLE} if all(verdicts) else {REPORT})


@pytest.mark.parametrize("broken", ["a planted column", "duplicated test rows"])
def test_what_leaks_is_not_packed_however_well_it_scores(broken: str, tmp_path: Path) -> None:
    frame = problems.loaded("diabetes")
    if broken == "a planted column":
        frame = frame.with_columns(settled=pl.col("label") + 0.5 * (pl.int_range(pl.len()) % 3))
    else:
        frame = pl.concat([frame, frame.filter(split="test").with_columns(split=pl.lit("train"))])
    kind = declared().task.plain()
    subject = problems.subject(frame, problems.plan(frame, kind, "rmse"), tmp_path / "candidates")
    found, made = run(keep(tmp_path, subject, frame), declared(beats_baseline_by=5.0))
    assert found == {"success_threshold": True, "beats_baseline": True, "no_leak": False}
    assert made == {REPORT}
