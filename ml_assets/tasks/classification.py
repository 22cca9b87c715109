"""Binary classification: labels are 0 or 1, scores are probabilities of the positive class in [0, 1].

A row is predicted positive when `score >= threshold`. The metrics are exact, handle ties, and need one sort at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml_assets.tasks import classification_plots
from ml_assets.tasks.base import DEFAULT_THRESHOLD, Metric, Output, Task, TaskError, known_rows
from ml_assets.tasks.counting import (
    CALIBRATION_BINS,
    Confusion,
    Curve,
    calibration_bins,
    confusion,
    curve,
)

if TYPE_CHECKING:
    import polars as pl


def _accuracy(y: np.ndarray, score: np.ndarray, threshold: float) -> float | str:
    counts = confusion(y, score, threshold)
    return (counts.tp + counts.tn) / len(y)


def _precision(y: np.ndarray, score: np.ndarray, threshold: float) -> float | str:
    counts = confusion(y, score, threshold)
    predicted = counts.tp + counts.fp
    return counts.tp / predicted if predicted else f"no row has a score of at least the threshold {threshold:g}"


def _recall(y: np.ndarray, score: np.ndarray, threshold: float) -> float | str:
    counts = confusion(y, score, threshold)
    positives = counts.tp + counts.fn
    return counts.tp / positives if positives else "no row is positive"


def _f1(y: np.ndarray, score: np.ndarray, threshold: float) -> float | str:
    counts = confusion(y, score, threshold)
    total = 2 * counts.tp + counts.fp + counts.fn
    return 2 * counts.tp / total if total else "no row is positive, and none is predicted to be"


def roc_area(y: np.ndarray, score: np.ndarray) -> float:
    """The area under the ROC curve of labels 0 and 1 that both occur; a score may be any number."""
    tp, fp = (np.concatenate([[0], counts]) for counts in curve(y, score)[1:])
    twice_area = np.sum(np.diff(fp) * (tp[1:] + tp[:-1]))
    return float(twice_area / (2 * int(tp[-1]) * int(fp[-1])))


def pr_area(y: np.ndarray, score: np.ndarray) -> float:
    """The average precision of labels 0 and 1 that both occur; a score may be any number."""
    _thresholds, tp, fp = curve(y, score)
    gained = np.diff(tp, prepend=0)
    return float(np.sum(gained * (tp / (tp + fp))) / tp[-1])


def _roc_auc(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return roc_area(y, score)


def _pr_auc(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return pr_area(y, score)


def _log_loss(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    tiny = np.finfo(np.float64).eps
    probability = np.clip(score, tiny, 1 - tiny)
    return float(-np.mean(np.where(y == 1, np.log(probability), np.log1p(-probability))))


def _brier(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    return float(np.mean((score - y) ** 2))


def _expected_calibration_error(y: np.ndarray, score: np.ndarray, _: float) -> float | str:
    bins = calibration_bins(y, score)
    return float(np.sum(np.abs(bins.mean_score - bins.positive_share) * bins.rows) / len(y))


METRICS: tuple[Metric, ...] = (
    Metric("accuracy", True, _accuracy, "Share of rows decided rightly at the threshold.", "(TP + TN) / rows"),
    Metric("precision", True, _precision, "Share of predicted positives that are positive.", "TP / (TP + FP)"),
    Metric("recall", True, _recall, "Share of positives that are found.", "TP / (TP + FN)"),
    Metric(
        "f1",
        True,
        _f1,
        "Harmonic mean of precision and recall at the threshold.",
        "2 TP / (2 TP + FP + FN); van Rijsbergen, Information Retrieval, 1979",
    ),
    Metric(
        "roc_auc",
        True,
        _roc_auc,
        "Probability that a random positive scores above a random negative; a tie counts half.",
        "Area under the ROC curve by trapezoids; Hanley & McNeil, Radiology 143, 1982",
        needs_both_classes=True,
    ),
    Metric(
        "pr_auc",
        True,
        _pr_auc,
        "Average precision: precision at each score, weighted by the recall gained there.",
        "sum of (R_n - R_(n-1)) P_n, without interpolation, as scikit-learn's average_precision_score",
        needs_both_classes=True,
    ),
    Metric(
        "log_loss",
        False,
        _log_loss,
        "Mean negative log-likelihood of the labels, in nats; scores are clipped to [2.2e-16, 1 - 2.2e-16].",
        "-mean(y ln p + (1 - y) ln(1 - p)); Good, J. R. Stat. Soc. B 14, 1952",
    ),
    Metric(
        "brier",
        False,
        _brier,
        "Mean squared difference between score and label.",
        "mean((p - y)^2); Brier, Monthly Weather Review 78, 1950",
    ),
    Metric(
        "expected_calibration_error",
        False,
        _expected_calibration_error,
        f"Mean gap between score and share of positives, over {CALIBRATION_BINS} bins of equal mass.",
        "sum of rows_b / rows |mean p_b - mean y_b|; Naeini et al., AAAI 2015, with the equal-mass bins of "
        "Nguyen & O'Connor, EMNLP 2015",
    ),
)


OUTCOMES = ("true_positive", "false_positive", "false_negative", "true_negative")


def value_of(counts: Confusion, value: Mapping[str, float]) -> float:
    """What decisions are worth together: each outcome's rows times its declared value; outcomes not named count 0."""
    return sum(rows * value.get(name, 0.0) for name, rows in zip(OUTCOMES, counts, strict=True))


def choose_threshold(y: np.ndarray, score: np.ndarray, value: Mapping[str, float] | None = None) -> float:
    """The threshold of most value on these rows (give it validation, never test); of equals, the highest.

    Without declared values it maximises F1. It lies half-way between two neighbouring scores, so that rounding in another
    runtime does not flip rows; where it is worth most to decide nothing, it lies above all scores. Without rows or without a
    positive label nothing tells thresholds apart: the answer is 0.5.
    """
    if len(y) == 0 or not (y == 1).any():
        return DEFAULT_THRESHOLD
    found = curve(y, score)
    worth = values_of(found, value) if value else 2 * found.tp / (found.tp + found.fp + found.positives)
    best = int(np.argmax(worth))
    nothing = value_of(Confusion(0, 0, found.positives, found.negatives), value) if value else 0.0
    if nothing > worth[best]:
        return float((found.thresholds[0] + 1) / 2)
    below = found.thresholds[best + 1] if best + 1 < len(found.thresholds) else 0.0
    return float((found.thresholds[best] + below) / 2)


def values_of(found: Curve, value: Mapping[str, float]) -> np.ndarray:
    """What decisions are worth together at each threshold of the curve (m,), as `value_of` tells it of one."""
    counts = (found.tp, found.fp, found.positives - found.tp, found.negatives - found.fp)
    return np.sum([rows * value.get(name, 0.0) for name, rows in zip(OUTCOMES, counts, strict=True)], axis=0)


@dataclass(frozen=True)
class Binary(Task):
    """Yes or no: labels 0 and 1, scores are probabilities of 1."""

    output: ClassVar[Output] = "probability"

    def _check(self, y: np.ndarray, score: np.ndarray) -> None:
        wrong = ~((y == 0) | (y == 1))
        if wrong.any():
            raise TaskError(
                f"label {y[wrong][0]} is not 0 or 1 ({wrong.sum()} rows): leave out unlabelled rows, map the rest"
            )
        outside = ~((score >= 0) & (score <= 1))
        if outside.any():
            raise TaskError(
                f"score {score[outside][0]} is not a probability in [0, 1] ({outside.sum()} rows): calibrate the model"
            )

    def labels(self, column: pl.Series) -> np.ndarray:
        found = set(column.unique())
        if not found <= {0, 1}:
            strange = sorted(found - {0, 1}, key=str)[:5]
            raise TaskError(f"label column {column.name!r} holds {strange}: give 0 and 1, without null")
        return column.cast(int).to_numpy()

    def losses(self, y: np.ndarray, score: np.ndarray) -> np.ndarray:
        return np.abs(y - score)

    def answers(self, score: np.ndarray, threshold: float) -> dict[str, Any]:
        return {"score": score, "prediction": (score >= threshold).astype(np.int64)}

    def stored(self, frame: pl.DataFrame) -> np.ndarray:
        return frame["score"].cast(float).to_numpy()

    def expectations(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            ("expect_column_values_to_be_between", {"column": "score", "min_value": 0, "max_value": 1}),
            ("expect_column_values_to_be_in_set", {"column": "prediction", "value_set": [0, 1]}),
        ]

    def choose_threshold(self, y: np.ndarray, score: np.ndarray, value: Mapping[str, float] | None = None) -> float:
        return choose_threshold(y, score, value)

    def describe(self, y: np.ndarray) -> str:
        return f"{np.mean(y == 1):.1%} positive" if len(y) else "no rows"

    def plots(self, y: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, bytes]:
        return {
            "ROC": classification_plots.roc_plot(y, score, threshold=threshold),
            "precision-recall": classification_plots.pr_plot(y, score, threshold=threshold),
            "calibration": classification_plots.calibration_plot(y, score),
            "confusion": classification_plots.confusion_plot(y, score, threshold=threshold),
        }

    def evidently_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        return known_rows(frame, ("label", "prediction", "score"))

    def evidently(self, threshold: float, frames: Sequence[pl.DataFrame] = ()) -> tuple[Any, Sequence[Any]]:
        from evidently import BinaryClassification, DataDefinition
        from evidently.presets import ClassificationPreset

        columns = BinaryClassification(target="label", prediction_labels="prediction", prediction_probas="score")
        definition = DataDefinition(
            classification=[columns], categorical_columns=["label", "prediction"], numerical_columns=["score"]
        )
        return definition, [ClassificationPreset(probas_threshold=threshold)]


TASK = Binary(kind="classification", metrics=METRICS, default_metric="roc_auc")
