"""What Evidently gets of each task: its reports run, also without what it would fail on, and its numbers are ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.tasks import Task, TaskError, task

# Evidently 0.7 and what it imports warn about numpy and litestar at import time
pytestmark = pytest.mark.filterwarnings("ignore")
CLASSES = ("a", "b", "label")  # the third has the name of a column


def run(found: Task, *frames: pl.DataFrame) -> dict[str, Any]:
    """Run the task's report on the frames (current, reference), and return Evidently's values by metric."""
    from evidently import Dataset, Report

    shown = [found.evidently_frame(frame) for frame in frames]
    definition, presets = found.evidently(0.4, shown)
    data = [Dataset.from_pandas(frame.to_pandas(), data_definition=definition) for frame in shown]
    snapshot = Report(list(presets)).run(data[0], data[1] if len(data) > 1 else None)
    return {metric["metric_name"].split("(")[0]: metric["value"] for metric in snapshot.dict()["metrics"]}


def answered(found: Task, y: Any, score: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"label": y, **found.answers(score, 0.4), "other": "text"})


def several(rows: int, *, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(rows)
    y = generator.integers(0, classes, rows)
    score = generator.random((rows, 3))
    score[np.arange(rows), y] += 0.3
    return y, score / score.sum(axis=1, keepdims=True)


def ours(found: Task, name: str, y: np.ndarray, score: np.ndarray) -> Any:
    return pytest.approx(found.metric(name).compute(y, score, 0.4), rel=1e-9)


def test_binary() -> None:
    generator = np.random.default_rng(0)
    score = generator.random(400)
    y = (generator.random(400) < score).astype(int)
    found = task("classification")
    frame = answered(found, y, score)
    unlabelled = frame.head(1).with_columns(label=pl.lit(None, pl.Int64))
    values = run(found, pl.concat([frame, unlabelled]))
    assert values["F1Score"] == ours(found, "f1", y, score)
    assert values["RocAuc"] == ours(found, "roc_auc", y, score)
    with pytest.raises(TaskError, match=r"the frame lacks \['prediction'\]; it has: label, score"):
        found.evidently_frame(frame.select("label", "score"))


@pytest.mark.parametrize("reference", [False, True])
def test_several_classes(reference: bool) -> None:
    found = task("classification", classes=CLASSES)
    y, score = several(300)
    frame = answered(found, [CLASSES[code] for code in y], score)
    values = run(found, frame, frame.head(200)) if reference else run(found, frame)
    assert found.evidently_frame(frame).columns == ["label_", "prediction", *CLASSES]
    assert values["Accuracy"] == ours(found, "accuracy", y, score)
    assert values["F1Score"] == ours(found, "f1_macro", y, score)
    assert values["LogLoss"] == ours(found, "log_loss", y, score)
    assert values["RocAuc"] == ours(found, "roc_auc_macro", y, score)


@pytest.mark.parametrize("lacking", ["current", "reference"])
def test_several_classes_of_which_one_has_no_rows(lacking: str) -> None:
    found = task("classification", classes=CLASSES)
    frames = []
    for classes in (2, 3) if lacking == "current" else (3, 2):
        y, score = several(200, classes=classes)
        frames.append(answered(found, [CLASSES[code] for code in y], score))
    values = run(found, *frames)
    assert "LogLoss" not in values
    assert ("F1ByLabel" in values) == (lacking == "current")
    correct = (frames[0]["label"] == frames[0]["prediction"]).mean()
    assert values["Accuracy"] == pytest.approx(correct)


def test_two_of_several_classes_are_not_taken_for_yes_and_no() -> None:
    found = task("classification", classes=CLASSES)
    frame = answered(found, ["a", "b", "a", "a"], np.eye(3)[[0, 1, 1, 0]])
    assert run(found, frame)["RowCount"] == 4


def test_regression() -> None:
    generator = np.random.default_rng(0)
    y = generator.normal(size=300)
    score = y + generator.normal(size=300)
    found = task("regression")
    values = run(found, answered(found, y, score), answered(found, y, y))
    assert values["RMSE"] == ours(found, "rmse", y, score)
    assert values["R2Score"] == ours(found, "r2", y, score)
    assert values["MAE"]["mean"] == ours(found, "mae", y, score)


def segments(rows: int) -> pl.DataFrame:
    generator = np.random.default_rng(rows)
    return pl.DataFrame(
        {
            "prediction": generator.integers(-1, 3, rows),
            "size": generator.normal(size=rows),
            "ratio": np.where(np.arange(rows) == 0, np.inf, generator.normal(size=rows)),
            "kind": generator.choice(["x", "y"], rows),
            "open": generator.random(rows) < 0.5,
            "empty": pl.Series([None] * rows, dtype=pl.Float64),
            "moment": pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2021, 1, 1), "1h", eager=True).head(rows),
        }
    )


def test_clustering_is_a_summary_and_drift_with_a_reference() -> None:
    found = task("clustering")
    assert found.evidently_frame(segments(9)).columns == ["prediction", "kind", "open", "size", "ratio", "empty"]
    assert run(found, segments(200))["RowCount"] == 200
    assert "DriftedColumnsCount" not in run(found, segments(200))
    assert run(found, segments(200), segments(150).drop("kind"))["DriftedColumnsCount"]["count"] == 0
    assert found.evidently(0.5)[1]
    with pytest.raises(TaskError, match="the frame lacks 'prediction'"):
        found.evidently_frame(pl.DataFrame({"size": [1]}))
