"""Metrics of a model's answers to rows with a known outcome, with bootstrap intervals; and of two models on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from ml_assets.tasks import Metric, Task, TaskError

RESAMPLES = 200
SLOW_RESAMPLES = 60
SLOW_ROWS = 1_000
"""Rows of a resample of a metric that is not cheap; what is found there is scaled to all rows."""
Interval = tuple[float, float]
Draw = Callable[[Metric, np.ndarray], "float | None"]


class EvaluationError(ValueError):
    """What should be evaluated does not fit. The message names the thing, the value and the fix."""


@dataclass(frozen=True, eq=False)
class Answered:
    """The rows of a frame that count, with truth `y` and answers `score` (see `Task`), decided at `threshold`.

    `frame` also has the columns of `Task.answers`. `unlabelled` are the rows that do not count: without an outcome.
    """

    task: Task
    threshold: float
    frame: pl.DataFrame
    y: np.ndarray
    score: np.ndarray
    unlabelled: pl.DataFrame

    def __len__(self) -> int:
        return self.frame.height

    def take(self, index: np.ndarray) -> Answered:
        """Return the rows at `index`, in that order."""
        return Answered(
            self.task, self.threshold, self.frame[index], self.y[index], self.score[index], self.unlabelled.clear()
        )

    @cached_property
    def evaluated(self) -> dict[str, float | str]:
        """Return every metric of the task by name: its value, or why it does not apply."""
        return evaluate(self.y, self.score, threshold=self.threshold, task=self.task)

    @property
    def metrics(self) -> dict[str, float | None]:
        """Return every metric of the task by name; None where it does not apply."""
        return known_values(self.evaluated)

    @property
    def reasons(self) -> dict[str, str]:
        """Return why metrics do not apply, by name."""
        return reasons(self.evaluated)


def answered(
    frame: pl.DataFrame,
    score: np.ndarray,
    *,
    task: Task,
    threshold: float,
    label: str = "label",
    matrix: np.ndarray | None = None,
) -> Answered:
    """Return the rows of `frame` whose label is known, with a model's `score` of each row of the frame.

    A task without labels needs `matrix` (n, d), in which its rows are compared; then every row counts.
    """
    if len(score) != frame.height:
        raise EvaluationError(f"{frame.height} rows and {len(score)} scores: score the rows of this frame")
    whole = with_answers(frame, score, task, threshold)
    if not task.supervised:
        if matrix is None or len(matrix) != frame.height:
            raise EvaluationError(f"a {task.kind} needs the matrix of its {frame.height} rows: give matrix")
        task.check(matrix, score)
        return Answered(task, threshold, whole, matrix, score, whole.clear())
    known = _known(frame, label)
    rows = whole.filter(known)
    y, scores = _labels(rows, label, task), score[known.to_numpy()]
    _refuse_broken(y, scores, task)
    return Answered(task, threshold, rows, y, scores, whole.filter(~known))


def with_answers(frame: pl.DataFrame, score: np.ndarray, task: Task, threshold: float) -> pl.DataFrame:
    """Return the frame with the columns of the task's answers, in the types in which they are stored."""
    columns = {name: _series(name, value) for name, value in task.answers(score, threshold).items()}
    return frame.with_columns(**columns)


def labelled(frame: pl.DataFrame, *, task: Task, label: str = "label") -> tuple[np.ndarray, np.ndarray]:
    """Return labels and scores of the rows whose label is not null; the frame has the columns of the task's answers.

    Raises an EvaluationError for a column that does not exist or a labelled row without an answer.
    """
    rows = frame.filter(_known(frame, label))
    needed = stored_columns(task)
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise EvaluationError(f"column {missing[0]!r} does not exist; the frame has: {', '.join(frame.columns)}")
    broken = rows.filter(pl.any_horizontal(pl.col(needed).is_null())).height
    if broken:
        raise EvaluationError(f"column {needed} is null in {broken} labelled rows: score every row first")
    y, score = _labels(rows, label, task), task.stored(rows)
    _refuse_broken(y, score, task)
    return y, score


def stored_columns(task: Task) -> list[str]:
    """Return the columns of answers that `Task.stored` reads: what was decided does not matter where there is a score."""
    return [name for name in task.answers(nothing(task), 0.5) if name != "prediction"] or ["prediction"]


def nothing(task: Task) -> np.ndarray:
    """Return the scores of no rows, in the shape that the task has."""
    shape = (0, len(task.classes)) if task.output == "probabilities" else (0,)
    return np.zeros(shape, dtype=np.int64 if task.output == "cluster" else np.float64)


def evaluate(y: np.ndarray, score: np.ndarray, *, threshold: float, task: Task) -> dict[str, float | str]:
    """Every metric of the task by name, in the task's order: its value, or why it does not apply. Each is computed once.

    Raises a TaskError when `y` and `score` are not what the task expects.
    """
    task.check(y, score)
    return {metric.name: metric.value_or_reason(y, score, threshold) for metric in task.metrics}


def known_values(found: Mapping[str, float | str]) -> dict[str, float | None]:
    """The values that `evaluate` found; None where a metric does not apply."""
    return {name: None if isinstance(one, str) else one for name, one in found.items()}


def reasons(found: Mapping[str, float | str]) -> dict[str, str]:
    """The reasons that `evaluate` found, by name of the metric; metrics that do apply are left out."""
    return {name: one for name, one in found.items() if isinstance(one, str)}


def bootstrap_intervals(
    y: np.ndarray,
    score: np.ndarray,
    *,
    threshold: float,
    task: Task,
    metrics: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """Percentile bootstrap intervals (Efron & Tibshirani 1993, ch. 13) of the named metrics, default all of the task.

    Rows are drawn with replacement; the same seed gives the same intervals. None where the metric does not apply to
    more than one resample in twenty. Rows are resampled one by one: in time series, read the interval as a lower bound.
    A metric that is not cheap is computed on smaller parts of the rows, drawn without replacement, and their spread is
    scaled to all rows (Politis, Romano & Wolf, Subsampling, 1999).
    """
    task.check(y, score)
    order = _sorted(score)  # a resample of sorted rows is sorted again almost for free
    y, score = y[order], score[order]
    chosen = [task.metric(name) for name in (task.metric_names if metrics is None else metrics)]

    def draw(metric: Metric, rows: np.ndarray) -> float | None:
        return metric.compute(y[rows], score[rows], threshold)

    return _intervals(draw, chosen, len(y), resamples=resamples, confidence=confidence, seed=seed)


def gain_intervals(
    one: Answered,
    other: Answered,
    *,
    metrics: Sequence[str],
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """By how much `one` is better than `other` on the same rows: paired bootstrap intervals of `Metric.gain` by name.

    Both are measured on each resample, so what makes a row hard for both does not widen the interval. A clustering is measured
    in the matrix of its own model.
    """
    if len(one) != len(other) or (one.task.supervised and not np.array_equal(one.y, other.y)):
        raise EvaluationError(f"{len(one)} and {len(other)} rows with other outcomes: compare models on the same rows")
    order = _sorted(one.score)
    sides = [(side.y[order], side.score[order], side.threshold) for side in (one, other)]

    def draw(metric: Metric, rows: np.ndarray) -> float | None:
        value, against = (metric.compute(y[rows], score[rows], threshold) for y, score, threshold in sides)
        return None if value is None or against is None else metric.gain(value, against)

    chosen = [one.task.metric(name) for name in metrics]
    return _intervals(draw, chosen, len(one), resamples=resamples, confidence=confidence, seed=seed)


def _intervals(
    draw: Draw, metrics: Sequence[Metric], rows: int, *, resamples: int, confidence: float, seed: int
) -> dict[str, Interval | None]:
    found: dict[str, Interval | None] = dict.fromkeys(metric.name for metric in metrics)
    draws: dict[str, list[float | None]] = {metric.name: [] for metric in metrics if metric.cheap}
    generator, everything = np.random.default_rng(seed), np.arange(rows)
    for _ in range(resamples if rows and draws else 0):
        drawn = np.repeat(everything, np.bincount(generator.integers(0, rows, rows), minlength=rows))
        for metric in metrics:
            if metric.cheap:
                draws[metric.name].append(draw(metric, drawn))
    found |= {name: _percentiles(values, confidence) for name, values in draws.items()}
    for metric in metrics:
        if not metric.cheap and rows >= 4:
            found[metric.name] = _subsampled(draw, metric, rows, min(resamples, SLOW_RESAMPLES), confidence, seed)
    return found


def _subsampled(draw: Draw, metric: Metric, rows: int, resamples: int, confidence: float, seed: int) -> Interval | None:
    """The spread of parts of m out of n rows, times sqrt(m / (n - m)), around the value of all rows.

    Drawn without replacement: a row that comes twice is its own nearest neighbour, and groups would look denser.
    """
    value, size = draw(metric, np.arange(rows)), min(rows // 2, SLOW_ROWS)
    generator = np.random.default_rng(seed)
    drawn = [draw(metric, np.sort(generator.choice(rows, size, replace=False))) for _ in range(resamples)]
    spread = _percentiles(drawn, confidence)
    if value is None or spread is None:
        return None
    middle = float(np.mean([one for one in drawn if one is not None]))
    scale = (size / (rows - size)) ** 0.5
    return value + scale * (spread[0] - middle), value + scale * (spread[1] - middle)


def _percentiles(values: Sequence[float | None], confidence: float) -> Interval | None:
    known = [value for value in values if value is not None]
    if not known or len(known) < 0.95 * len(values):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def _sorted(score: np.ndarray) -> np.ndarray:
    return np.argsort(score, kind="stable") if score.ndim == 1 else np.arange(len(score))


def _known(frame: pl.DataFrame, label: str) -> pl.Series:
    if label not in frame.columns:
        raise EvaluationError(f"column {label!r} does not exist; the frame has: {', '.join(frame.columns)}")
    return frame[label].is_not_null()


def _labels(rows: pl.DataFrame, label: str, task: Task) -> np.ndarray:
    try:
        return task.labels(rows[label])
    except TaskError as error:
        raise EvaluationError(str(error)) from error


def _refuse_broken(y: np.ndarray, score: np.ndarray, task: Task) -> None:
    broken = int((~np.isfinite(score).reshape(len(score), -1).all(axis=1)).sum()) if len(score) else 0
    if broken:
        raise EvaluationError(f"the score is null or not finite in {broken} labelled rows: score every row first")
    task.check(y, score)


def _series(name: str, value: np.ndarray) -> pl.Series:
    if value.ndim == 2:
        return pl.Series(name, value.astype(np.float64)).arr.to_list()
    return pl.Series(name, value, dtype=pl.String) if value.dtype == object else pl.Series(name, value)
