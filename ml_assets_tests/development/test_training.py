"""Training one candidate: what it reports comes from the saved model, and a failure is a result, not an exception."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest

from ml_assets.development.candidates.base import Candidate, CandidateError
from ml_assets.development.candidates.baseline import Baseline
from ml_assets.development.encoding import Encoder
from ml_assets.development.model_files import FittedModel, ModelFileError
from ml_assets.development.training import CandidateResult, TrainingError, measured, train_candidate
from ml_assets_tests.development.samples import small


@dataclass(frozen=True)
class Broken(Baseline):
    """A candidate that raises."""

    name: ClassVar[str] = "broken"
    error: type[Exception] = FloatingPointError

    def fit(
        self, train: pl.DataFrame, validation: pl.DataFrame, *, encoder: Encoder, label: str, seed: int, threads: int
    ) -> FittedModel:
        raise self.error("the loss is not finite")


def trained(frame: pl.DataFrame, features: list[str], folder: Path, known: Candidate | None = None) -> CandidateResult:
    return train_candidate(
        "baseline", frame, label="label", features=features, seed=1, folder=folder, threads=1, variant=known
    )


def test_result_is_that_of_the_saved_model(training_set: pl.DataFrame, features: list[str], tmp_path: Path) -> None:
    result = trained(training_set, features, tmp_path / "xgboost", small("xgboost"))
    validation = training_set.filter(pl.col("split") == "validation")
    metrics, undefined = measured("classification", validation["label"].to_numpy(), result.load().predict(validation))
    assert result.outcome == "trained" and result.metrics == metrics and result.undefined == undefined == {}
    assert result.rows == {"train": 600, "validation": 200} and result.seconds > 0
    assert set(result.sha256) == {path.name for path in (tmp_path / "xgboost").iterdir()}


def test_result_survives_json(training_set: pl.DataFrame, features: list[str], tmp_path: Path) -> None:
    for known in (small("svm"), Broken(), small("neural")):
        result = trained(training_set, features, tmp_path / known.name, known)
        assert CandidateResult.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result


def test_altered_files_are_not_loaded(training_set: pl.DataFrame, features: list[str], tmp_path: Path) -> None:
    result = trained(training_set, features, tmp_path)
    (tmp_path / "prior.json").write_text('{"prior": 0.99}')
    with pytest.raises(ModelFileError, match="altered"):
        result.load()


def test_a_failure_is_carried_with_its_text(training_set: pl.DataFrame, features: list[str], tmp_path: Path) -> None:
    result = trained(training_set, features, tmp_path / "broken", Broken())
    assert (result.outcome, result.reason) == ("failed", "FloatingPointError: the loss is not finite")
    assert not result.metrics and not (tmp_path / "broken").exists()
    with pytest.raises(TrainingError, match="has no model"):
        result.load()


def test_a_bug_is_not_a_failure(training_set: pl.DataFrame, features: list[str], tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        trained(training_set, features, tmp_path, Broken(error=TypeError))


def test_one_class_in_training_fails_every_model_but_the_baseline(
    training_set: pl.DataFrame, features: list[str], tmp_path: Path
) -> None:
    frame = training_set.with_columns(label=pl.when(pl.col("split") == "train").then(0).otherwise("label"))
    result = trained(frame, features, tmp_path / "forest", small("random_forest"))
    assert result.outcome == "failed" and "needs rows of both classes" in result.reason
    assert trained(frame, features, tmp_path / "baseline").outcome == "trained"


def test_one_class_in_validation_leaves_metrics_undefined_with_reasons(
    training_set: pl.DataFrame, features: list[str], tmp_path: Path
) -> None:
    frame = training_set.with_columns(label=pl.when(pl.col("split") == "validation").then(0).otherwise("label"))
    result = trained(frame, features, tmp_path)
    assert "roc_auc" not in result.metrics and "only one class" in result.undefined["roc_auc"]
    assert "log_loss" in result.metrics


def test_not_applicable_is_an_outcome_of_its_own(
    training_set: pl.DataFrame, features: list[str], tmp_path: Path
) -> None:
    few = pl.concat([training_set.head(10), training_set.filter(pl.col("split") == "validation").head(10)])
    result = trained(few, features, tmp_path, small("neural"))
    assert result.outcome == "not_applicable" and "at least 50 training rows, and there are 10" in result.reason


def test_rows_without_a_label_are_left_out(training_set: pl.DataFrame, features: list[str], tmp_path: Path) -> None:
    frame = training_set.with_columns(label=pl.when(pl.int_range(pl.len()) % 2 == 0).then("label"))
    assert trained(frame, features, tmp_path).rows == {"train": 300, "validation": 100}


def test_test_rows_change_nothing(training_set: pl.DataFrame, features: list[str], tmp_path: Path) -> None:
    one = trained(training_set, features, tmp_path / "one", small("xgboost"))
    without = training_set.filter(pl.col("split") != "test")
    two = trained(without, features, tmp_path / "two", small("xgboost"))
    assert one.sha256 == two.sha256
    assert replace(one, folder="", seconds=0) == replace(two, folder="", seconds=0)


@pytest.mark.parametrize(
    ("change", "features", "message"),
    [
        ({}, ["delay", "nowhere"], r"no column \['nowhere'\]"),
        ({}, ["delay", "label"], "the label 'label' is among the features"),
        ({"split": pl.lit("train")}, ["delay"], "no labelled rows of split 'validation'"),
        ({"label": pl.lit(None, dtype=pl.Int64)}, ["delay"], "no labelled rows of split 'train'"),
    ],
)
def test_an_unfit_training_set_is_refused(
    training_set: pl.DataFrame, change: dict[str, pl.Expr], features: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=message):
        trained(training_set.with_columns(**change), features, tmp_path)


def test_an_unknown_candidate_is_refused(training_set: pl.DataFrame, features: list[str], tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="does not exist"):
        train_candidate("gpt", training_set, label="label", features=features, seed=0, folder=tmp_path)
