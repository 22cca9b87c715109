"""The examination of a challenger: judged on the test rows, at a threshold chosen without them, beside the baseline."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml_assets.development.training import CandidateResult, TrainingError, train_candidate
from ml_assets.evaluation.challenge import BASELINE, SHOWN, Examination, examine, gates, plots
from ml_assets.evaluation.metrics import choose_threshold
from ml_assets.tasks import task
from ml_assets_tests.development.samples import FEATURES, made, small

MADE_AT = datetime(2013, 11, 1, tzinfo=UTC)
AUC = task("classification").metric("roc_auc")
ROWS = 1_500


def training_set() -> pl.DataFrame:
    start = pl.lit(datetime(2013, 9, 1, tzinfo=UTC)).dt.cast_time_unit("us")
    return made(ROWS).with_columns(event_timestamp=start + pl.duration(hours=pl.int_range(ROWS)))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CandidateResult]:
    folder = tmp_path_factory.mktemp("candidates")
    return {
        name: train_candidate(
            name, training_set(), label="label", features=FEATURES, seed=0, folder=folder / name, variant=small(name)
        )
        for name in (BASELINE, "xgboost")
    }


def examined(results: dict[str, CandidateResult], frame: pl.DataFrame, winner: str = "xgboost") -> Examination:
    return examine(
        "late", frame, results, winner, kind="classification", version="7", made_at=MADE_AT, slices=["place"]
    )


@pytest.fixture(scope="module")
def found(results: dict[str, CandidateResult]) -> Examination:
    return examined(results, training_set())


def test_the_report_is_about_the_test_rows(found: Examination) -> None:
    test = training_set().filter(pl.col("split") == "test")
    assert found.report.rows == found.test.height == test.height
    assert found.test["event_timestamp"].equals(test["event_timestamp"])
    assert (found.report.split, found.report.model_version, found.report.made_at) == ("test", "7", MADE_AT)


def test_scores_are_those_of_the_saved_model(found: Examination, results: dict[str, CandidateResult]) -> None:
    expected = results["xgboost"].load().predict(found.test)
    np.testing.assert_array_equal(found.test["score"].to_numpy(), expected)
    assert (found.test["prediction"] == (found.test["score"] >= found.report.threshold)).all()


def test_the_threshold_is_chosen_on_validation(found: Examination, results: dict[str, CandidateResult]) -> None:
    rows = found.validation
    assert found.report.threshold == choose_threshold(rows["label"].to_numpy(), rows["score"].to_numpy())
    flipped = pl.when(pl.col("split") == "test").then(1 - pl.col("label")).otherwise(pl.col("label"))
    other = examined(results, training_set().with_columns(label=flipped))
    assert other.report.threshold == found.report.threshold  # the test's outcomes do not matter to it
    auc, inverted = found.report.metrics["roc_auc"], other.report.metrics["roc_auc"]
    assert auc is not None
    assert inverted == pytest.approx(1 - auc)


def test_the_baseline_is_measured_on_the_same_rows(found: Examination) -> None:
    assert found.report.baseline["roc_auc"] == pytest.approx(0.5)
    assert set(found.report.baseline) == set(found.report.metrics)


def test_it_is_sliced_by_what_was_asked_and_by_month(found: Examination) -> None:
    names = {(row["slice"], row["value"]) for row in found.report.slices}
    assert names >= {("place", "x"), ("place", "y")}
    assert {value for name, value in names if name == "month"} == {"2013-10", "2013-11"}
    assert sum(row["rows"] for row in found.report.slices if row["slice"] == "month") == found.report.rows


def test_every_candidate_is_listed_with_its_outcome(results: dict[str, CandidateResult]) -> None:
    failed = CandidateResult("svm", "failed", "", reason="LinAlgError: singular")
    rows = {row["candidate"]: row for row in examined({**results, "svm": failed}, training_set()).report.candidates}
    assert [name for name, row in rows.items() if row["selected"]] == ["xgboost"]
    assert (rows["svm"]["outcome"], rows["svm"]["note"]) == ("failed", "LinAlgError: singular")
    assert rows["xgboost"]["validation roc_auc"] == results["xgboost"].metrics["roc_auc"]
    assert {f"validation {name}" for name in SHOWN} <= set(rows["svm"])


def test_a_candidate_without_a_model_cannot_be_examined(results: dict[str, CandidateResult]) -> None:
    failed = {**results, "xgboost": CandidateResult("xgboost", "failed", "", reason="no memory")}
    with pytest.raises(TrainingError, match="'xgboost' has no model"):
        examined(failed, training_set())


def test_the_gates_say_what_decided(found: Examination) -> None:
    told = {gate.name: gate for gate in gates(found.report, AUC, at_least=0.6, margin=0.02)}
    auc = found.report.metrics["roc_auc"]
    assert all(gate.passed for gate in told.values())
    assert told["success_threshold"].reason == f"roc_auc is {auc:.4f}, declared 0.6"
    assert told["beats_baseline"].reason.startswith(f"roc_auc {auc:.4f} against 0.5000: gain ")
    undeclared = gates(found.report, AUC, at_least=None, margin=0.0)[0]
    assert (undeclared.passed, undeclared.reason) == (True, "no threshold is declared (success.at_least)")


def test_the_baseline_itself_is_stopped(results: dict[str, CandidateResult]) -> None:
    found = examined(results, training_set(), winner=BASELINE)
    verdicts = {gate.name: gate.passed for gate in gates(found.report, AUC, at_least=0.6, margin=0.02)}
    assert verdicts == {"success_threshold": False, "beats_baseline": False}


def test_gates_know_which_way_is_better(found: Examination) -> None:
    loss = task("classification").metric("log_loss")
    value = found.report.metrics["log_loss"]
    assert value is not None
    for limit, passed in ((value + 0.01, True), (value - 0.01, False)):
        assert gates(found.report, loss, at_least=limit, margin=0.0)[0].passed is passed
    assert gates(found.report, loss, at_least=None, margin=0.01)[1].passed


def test_the_plots_are_images_by_name(found: Examination, tmp_path: Path) -> None:
    images = plots(found, AUC, target=0.68)
    assert set(images) == {"candidates on validation", "ROC", "precision-recall", "calibration", "confusion"}
    assert all(image.startswith("![") for image in images.values())
