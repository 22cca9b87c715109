"""Metrics of a model on rows with labels, with bootstrap intervals; and the choice of a threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from ml_assets.tasks import Task
from ml_assets.tasks.classification import curve

DEFAULT_THRESHOLD = 0.5


class EvaluationError(ValueError):
    """What should be evaluated does not fit. The message names the thing, the value and the fix."""


def labelled(frame: pl.DataFrame, *, label: str = "label", score: str = "score") -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores (two Float64 arrays of one length) of the rows of `frame` whose label is not null.

    Raises an EvaluationError for a column that does not exist or a labelled row without a finite score.
    """
    for column in (label, score):
        if column not in frame.columns:
            raise EvaluationError(f"column {column!r} does not exist; the frame has: {', '.join(frame.columns)}")
    known = frame.filter(pl.col(label).is_not_null()).select(pl.col(label, score).cast(pl.Float64))
    broken = known.filter(~pl.col(score).is_finite().fill_null(False)).height
    if broken:
        raise EvaluationError(
            f"column {score!r} is null or not finite in {broken} labelled rows: score every row first"
        )
    return known[label].to_numpy(), known[score].to_numpy()


def evaluate(y: np.ndarray, score: np.ndarray, *, threshold: float, task: Task) -> dict[str, float | None]:
    """Every metric of the task by name, in the task's order; None where it does not apply (see `reasons`).

    `y` and `score` are flat arrays of one length. Raises a TaskError when they are not what the task expects.
    """
    task.check(y, score)
    return {metric.name: metric.compute(y, score, threshold) for metric in task.metrics}


def reasons(y: np.ndarray, score: np.ndarray, *, threshold: float, task: Task) -> dict[str, str]:
    """Why metrics do not apply to these rows, by name; metrics that do apply are left out."""
    task.check(y, score)
    found = {metric.name: metric.why_not(y, score, threshold) for metric in task.metrics}
    return {name: reason for name, reason in found.items() if reason is not None}


def bootstrap_intervals(
    y: np.ndarray,
    score: np.ndarray,
    *,
    threshold: float,
    task: Task,
    metrics: Sequence[str] | None = None,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float] | None]:
    """Percentile bootstrap intervals (Efron & Tibshirani 1993, ch. 13) of the named metrics, default all of the task.

    Rows are drawn with replacement; the same seed gives the same intervals. None where the metric does not apply to
    more than one resample in twenty. Rows are resampled one by one: in time series, read the interval as a lower bound.
    """
    task.check(y, score)
    chosen = [task.metric(name) for name in (task.metric_names if metrics is None else metrics)]
    order = np.argsort(score, kind="stable")  # a resample of sorted rows is sorted again almost for free
    y, score = y[order], score[order]
    draws: dict[str, list[float | None]] = {metric.name: [] for metric in chosen}
    for rows in _resamples(len(y), resamples, seed):
        for metric in chosen:
            draws[metric.name].append(metric.compute(y[rows], score[rows], threshold))
    return {name: _interval(values, confidence) for name, values in draws.items()}


def choose_threshold(y: np.ndarray, score: np.ndarray) -> float:
    """The threshold that maximises F1 on these rows (give it validation, never test); of equals, the highest.

    It lies half-way between two neighbouring scores, so that rounding in another runtime does not flip rows.
    Without rows or without a positive label, F1 cannot tell thresholds apart: the answer is 0.5.
    """
    if len(y) == 0 or not (y == 1).any():
        return DEFAULT_THRESHOLD
    thresholds, tp, fp = curve(y, score)
    best = int(np.argmax(2 * tp / (tp + fp + tp[-1])))
    below = thresholds[best + 1] if best + 1 < len(thresholds) else 0.0
    return float((thresholds[best] + below) / 2)


def _resamples(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Sorted row numbers drawn with replacement, once per resample; nothing without rows."""
    generator = np.random.default_rng(seed)
    everything = np.arange(rows)
    for _ in range(resamples if rows else 0):
        yield np.repeat(everything, np.bincount(generator.integers(0, rows, rows), minlength=rows))


def _interval(values: Sequence[float | None], confidence: float) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    if not known or len(known) < 0.95 * len(values):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
