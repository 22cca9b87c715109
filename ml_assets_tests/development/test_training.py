"""Training one candidate: what it reports comes from the saved model and rows it has not seen; a failure is a result."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from ml_assets.development.candidates.base import Candidate, Fitted, Fitting, Rows
from ml_assets.development.candidates.baseline import Baseline
from ml_assets.development.candidates.linear import Linear
from ml_assets.development.candidates.registry import candidate
from ml_assets.development.model_files import ModelFileError, load
from ml_assets.development.rows import DevelopmentRows, TrainingError
from ml_assets.development.search import Budget
from ml_assets.development.training import CandidateResult, fit_on, refit, task_metrics, train_candidate
from ml_assets.tasks import task
from ml_assets_tests.development.samples import small
from ml_assets_tests.development.toys import BINARY, NUMBERS, development, fitting, numbered, table


@dataclass(frozen=True)
class Broken(Baseline):
    """A candidate that raises."""

    name: ClassVar[str] = "broken"
    error: type[Exception] = FloatingPointError

    @property
    def defaults(self) -> dict[str, Any]:
        return {}

    def fit(self, train: Rows, watched: Rows | None, how: Fitting) -> Fitted:
        raise self.error("the loss is not finite")


@pytest.fixture(scope="module")
def rows() -> DevelopmentRows:
    return development(table(400))


def trained(known: Candidate, rows: DevelopmentRows, folder: Path, **more: Any) -> CandidateResult:
    return train_candidate(known, rows, fitting(seed=1), folder=folder, **more)


def test_few_rows_are_scored_out_of_fold_and_the_model_is_of_the_train_split(
    rows: DevelopmentRows, tmp_path: Path
) -> None:
    result = trained(Linear(), rows, tmp_path / "linear")
    assert rows.cross_fitted and result.outcome == "trained" and result.seconds > 0
    scores = np.empty(0)
    for fold in rows.folds:
        fitted, encoder = fit_on(Linear(), rows, fold.fit, fitting(seed=1))
        scores = np.append(scores, fitted.scores(rows.rows(fold.score, encoder)))
    np.testing.assert_array_equal(result.scores(), scores)
    assert (result.metrics, result.undefined) == task_metrics(BINARY, rows.y[rows.scored], scores)
    fitted, encoder = fit_on(Linear(), rows, np.arange(rows.train), fitting(seed=1))
    np.testing.assert_allclose(
        result.load().predict(rows.frame), fitted.scores(rows.rows(np.arange(320), encoder)), atol=1e-5
    )
    assert result.rows == {"train": 240, "validation": 80}
    assert set(result.sha256) == {path.name for path in (tmp_path / "linear").iterdir()}


def test_many_rows_are_scored_by_the_saved_model(tmp_path: Path) -> None:
    rows = development(table(6_500))
    result = trained(Linear(), rows, tmp_path / "linear")
    validation = rows.frame[rows.train :]
    np.testing.assert_allclose(result.load().predict(validation), result.scores(), atol=1e-5)
    assert result.metrics == task_metrics(BINARY, rows.y[rows.train :], result.scores())[0]


def test_a_search_is_told_and_its_best_is_fitted(rows: DevelopmentRows, tmp_path: Path) -> None:
    heard: list[str] = []
    result = trained(Linear(), rows, tmp_path / "linear", budget=Budget(trials=3, folds=2), tell=heard.append)
    assert len(heard) == len(result.trials) == 3
    best = max((one for one in result.trials if one["value"] is not None), key=lambda one: float(one["value"]))
    assert result.variant["penalty"] == best["parameters"]["penalty"] == result.parameters["penalty"]
    assert trained(Linear(), rows, tmp_path / "again", budget=None).trials == ()


def test_result_survives_json(rows: DevelopmentRows, tmp_path: Path) -> None:
    for known in (Linear(), Broken()):
        result = trained(known, rows, tmp_path / known.name, budget=Budget(trials=1, folds=2))
        assert CandidateResult.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result


def test_altered_files_are_not_loaded(rows: DevelopmentRows, tmp_path: Path) -> None:
    result = trained(Baseline(), rows, tmp_path / "baseline")
    (tmp_path / "baseline" / "prior.json").write_text('{"prior": 0.99}')
    with pytest.raises(ModelFileError, match="altered"):
        result.load()


def test_a_failure_is_carried_with_its_text(rows: DevelopmentRows, tmp_path: Path) -> None:
    result = trained(Broken(), rows, tmp_path / "broken")
    assert (result.outcome, result.reason) == ("failed", "FloatingPointError: the loss is not finite")
    assert not result.metrics and not (tmp_path / "broken").exists()
    for ask in (result.load, result.scores):
        with pytest.raises(TrainingError, match="candidate 'broken' has no"):
            ask()


def test_a_bug_is_not_a_failure(rows: DevelopmentRows, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        trained(Broken(error=TypeError), rows, tmp_path / "broken")


def test_one_class_in_all_rows_fails_every_model_but_the_baseline(tmp_path: Path) -> None:
    rows = development(table(400).with_columns(label=0))
    result = trained(small("random_forest"), rows, tmp_path / "forest")
    assert result.outcome == "failed" and "needs rows of two classes" in result.reason
    baseline = trained(Baseline(), rows, tmp_path / "baseline")
    assert baseline.outcome == "trained"
    assert "roc_auc" not in baseline.metrics and "only one class" in baseline.undefined["roc_auc"]
    assert "log_loss" in baseline.metrics


def test_folds_before_the_second_class_came_are_left_out(tmp_path: Path) -> None:
    frame = table(400).with_columns(label=pl.when(pl.col("row") < 230).then(0).otherwise("label"))
    rows = development(frame)
    assert len(rows.folds) == 2
    assert trained(Linear(), rows, tmp_path / "linear").outcome == "trained"


def test_not_applicable_is_an_outcome_of_its_own(tmp_path: Path) -> None:
    few = trained(small("neural"), development(table(40)), tmp_path / "neural")
    assert few.outcome == "not_applicable" and "at least 50 training rows, and there are 24" in few.reason
    persistence = trained(candidate("persistence"), development(table(40)), tmp_path / "persistence")
    assert persistence.outcome == "not_applicable"


def test_test_rows_change_nothing(tmp_path: Path) -> None:
    frame = table(400)
    spoiled = frame.with_columns(
        x=pl.when(pl.col("split") == "test").then(float("inf")).otherwise("x"),
        label=pl.when(pl.col("split") == "test").then(99).otherwise("label"),
    )
    one, two = (
        trained(small("xgboost"), development(part), tmp_path / name, budget=Budget(trials=1, folds=2))
        for name, part in (("one", frame), ("two", spoiled))
    )
    assert one.sha256 == two.sha256 and (one.scores() == two.scores()).all()
    assert replace(one, folder="", seconds=0, trials=()) == replace(two, folder="", seconds=0, trials=())


def test_a_refit_is_of_all_rows_and_as_many_rounds(tmp_path: Path) -> None:
    rows = development(numbered(table(600), table(600)["x"].to_numpy() * 3), NUMBERS)
    known = replace(small("xgboost"), learning_rate=0.3)
    result = train_candidate(known, rows, fitting(NUMBERS), folder=tmp_path / "xgboost")
    assert result.size and result.size < 40
    hashes = refit(known, rows, fitting(NUMBERS), result.size, share=1 / 1.44, folder=tmp_path / "again")
    model = load(tmp_path / "again", sha256=hashes)
    assert model.parameters["rounds_kept"] == round(result.size * 1.2)
    assert model.encoder.columns[0].mean == pytest.approx(rows.frame["x"].mean(), rel=1e-5)


def test_a_clustering_is_measured_on_validation_and_for_stability(tmp_path: Path) -> None:
    frame = (
        table(300).drop("label").with_columns(x=pl.when(pl.col("row") % 3 == 0).then(50.0).otherwise(0.0) + pl.col("x"))
    )
    known = task("clustering", clusters=(2, 3))
    rows = development(frame, known)
    result = train_candidate(candidate("k_means"), rows, fitting(known), folder=tmp_path / "k_means")
    assert result.outcome == "trained" and result.metrics["stability"] > 0.9
    assert result.scores().shape == (60,) and result.load().predict(frame).shape == (300,)


def test_metrics_refuse_scores_that_are_none() -> None:
    with pytest.raises(ValueError, match="is not a probability"):
        task_metrics(BINARY, np.array([0, 1]), np.array([0.5, np.nan]))
