"""Tracking on a real MLflow with SQLite: runs, versions, aliases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_assets.development.candidates.baseline import Baseline
from ml_assets.development.model_files import ModelFileError
from ml_assets.development.tracking import ChampionRef, Tracking, TrackingError
from ml_assets.development.training import CandidateResult, train_candidate
from ml_assets_tests.development.toys import development, fitting, table

# MLflow 3.17 uses a loader that SQLAlchemy 2.1 calls deprecated; its migrations use deprecated parts of alembic.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated",
    "ignore::DeprecationWarning:alembic",
    "ignore::DeprecationWarning:mlflow",
)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    root = tmp_path_factory.mktemp("tracking")
    return Tracking(f"sqlite:///{root}/new/mlflow.db", str(root / "artifacts"))


@pytest.fixture
def result(tmp_path: Path) -> CandidateResult:
    return train_candidate(Baseline(), development(table(1_000)), fitting(seed=7), folder=tmp_path / "model")


def test_a_trained_candidate_is_recorded_with_its_model(
    tracking: Tracking, result: CandidateResult, tmp_path: Path
) -> None:
    run = tracking.run(tracking.log_candidate("delay", result, tags={"data_hash": "abc", "code_version": "1"}))
    assert run.info.status == "FINISHED" and run.info.run_name == "baseline"
    assert run.data.params == {
        "prior": str(result.parameters["prior"]),
        "seed": "7",
        "train_rows": "600",
        "validation_rows": "200",
    }
    assert run.data.metrics == {**result.metrics, "seconds": result.seconds}
    assert run.data.tags["data_hash"] == "abc" and run.data.tags["sha256.prior.json"] == result.sha256["prior.json"]
    folder = Path(run.info.artifact_uri.removeprefix("file://")) / "model"
    assert {path.name for path in folder.iterdir()} == set(result.sha256)


def test_a_failed_candidate_ends_as_failed(tracking: Tracking) -> None:
    failed = CandidateResult("svm", "failed", "", reason="MemoryError: too much")
    run = tracking.run(tracking.log_candidate("delay", failed, tags={}))
    assert run.info.status == "FAILED" and run.data.tags["reason"] == "MemoryError: too much"


def test_each_trial_is_a_run_below_the_candidates(tracking: Tracking, result: CandidateResult) -> None:
    def trial(number: int, value: float | None, state: str) -> dict[str, Any]:
        parameters = {"depth": number, "log_target": False, "layers": [64, 32]}
        return {"number": number, "parameters": parameters, "value": value, "state": state, "seconds": 0.5}

    trials = (trial(0, 0.75, "complete"), trial(1, None, "pruned"), trial(2, None, "fail"))
    parent = tracking.log_candidate("searched", replace(result, trials=trials), tags={}, metric="roc_auc")
    runs = tracking._client.search_runs(
        [tracking._experiment("searched")], f"tags.mlflow.parentRunId = '{parent}'", order_by=["params.depth"]
    )
    assert [run.info.run_name for run in runs] == ["baseline 0", "baseline 1", "baseline 2"]
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED", "FAILED"]
    assert [run.data.tags["trial"] for run in runs] == ["complete", "pruned", "fail"]
    assert runs[0].data.params == {"depth": "0", "log_target": "False", "layers": "[64, 32]"}
    assert [run.data.metrics for run in runs] == [{"seconds": 0.5, "roc_auc": 0.75}, {"seconds": 0.5}, {"seconds": 0.5}]
    assert tracking.run(parent).info.status == "FINISHED"


def test_a_table_of_a_thousand_features_and_a_long_reason_are_recorded(
    tracking: Tracking, result: CandidateResult
) -> None:
    wide = replace(result, features=tuple(f"a_column_of_a_wide_table_{number}" for number in range(1_000)))
    long = replace(wide, parameters={"weights": {f"member_{number}": 0.001 for number in range(1_000)}})
    assert tracking.run(tracking.log_candidate("wide", long, tags={})).info.status == "FINISHED"
    failed = CandidateResult("svm", "failed", "", reason="no " * 5_000)
    assert tracking.run(tracking.log_candidate("wide", failed, tags={})).info.status == "FAILED"


def test_a_run_whose_recording_breaks_off_does_not_stay_running(tracking: Tracking) -> None:
    lost = CandidateResult("lost", "trained", "/nowhere/at/all", metrics={"roc_auc": 0.5}, sha256={"prior.json": "0"})
    with pytest.raises(ModelFileError, match=r"/nowhere/at/all/prior.json cannot be read"):
        tracking.log_candidate("broken", lost, tags={})
    (run,) = tracking._client.search_runs([tracking._experiment("broken")])
    assert run.info.status == "FAILED"


def test_versions_and_the_champion(tracking: Tracking, result: CandidateResult, tmp_path: Path) -> None:
    assert tracking.champion("late") is None, "no registered model"
    run_id = tracking.log_candidate("late", result, tags={})
    source = tracking.log_bundle(run_id, Path(result.folder))
    first = tracking.register("late", run_id, source=source, tags={"digest": "d1"}, sha256={"a.json": "h1"})
    assert tracking.champion("late") is None, "no alias"
    again = tracking.register("late", run_id, source=source, tags={"digest": "d1"}, sha256={"a.json": "h1"})
    assert again == first, "a retry adds nothing"
    assert tracking.register("late", run_id, source=source, tags={"digest": "d2"}) != first, (
        "another bundle is another version"
    )
    second = tracking.register("late", run_id, source="/another/bundle", tags={})
    assert second != first
    for version in (second, first):
        tracking.set_alias("late", "champion", version)
    found = Tracking(tracking.uri, tracking.artifact_root).champion("late")
    assert found == ChampionRef("late", first, run_id, source, {"digest": "d1"}, {"a.json": "h1"})
    folder = tracking.bundle_folder(found, tmp_path / "cache")
    assert {path.name for path in folder.iterdir()} == set(result.sha256)


def test_a_bundle_from_elsewhere_is_copied_once(
    tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.artifacts

    calls = []

    def download_artifacts(*, artifact_uri: str, dst_path: str, tracking_uri: str) -> str:
        calls.append(artifact_uri)
        (Path(dst_path) / "bundle").mkdir()
        (Path(dst_path) / "bundle" / "file").write_text("x")
        return f"{dst_path}/bundle"

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download_artifacts)
    ref = ChampionRef("late", "1", "", "gs://models/late/bundle")
    folders = {tracking.bundle_folder(ref, tmp_path / "cache") for _ in range(2)}
    assert len(folders) == 1 and calls == ["gs://models/late/bundle"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folders.pop().name], "nothing temporary is left"


def test_a_bundle_that_is_not_there_is_not_logged(tracking: Tracking, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(TrackingError, match="is missing or empty"):
            tracking.log_bundle("any", folder)


@pytest.mark.parametrize("uri", ["./mlruns", "file:///mlruns", ""])
def test_a_folder_is_no_backend(uri: str) -> None:
    with pytest.raises(TrackingError, match="is not a database or server: use sqlite:///"):
        Tracking(uri, "artifacts")
