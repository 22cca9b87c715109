"""Metrics per slice: how well the model does for each value of a column."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ml_assets.evaluation.metrics import EvaluationError, evaluate, labelled, reasons
from ml_assets.tasks import Task

NULL_VALUE = "(null)"


def slice_metrics(
    frame: pl.DataFrame,
    by: Sequence[str],
    *,
    threshold: float,
    task: Task,
    label: str = "label",
    score: str = "score",
    minimum_rows: int = 100,
) -> pl.DataFrame:
    """Metrics for each value of each column in `by`, one row per slice, the largest slice of a column first.

    Columns: slice, value (String; null values are one slice, "(null)"), rows (with a label), unlabelled (rows
    without), positives (labels equal to 1), one Float64 column per metric of the task, note. A slice with fewer than
    `minimum_rows` labelled rows keeps its row, with null metrics and a note; so does a metric that does not apply.
    """
    missing = [column for column in by if column not in frame.columns]
    if missing:
        raise EvaluationError(f"slice columns {missing} do not exist; the frame has: {', '.join(frame.columns)}")
    rows = [
        {"slice": column, "value": _spell(value)}
        | _measure(part, threshold=threshold, task=task, label=label, score=score, minimum_rows=minimum_rows)
        for column in by
        for value, part in _parts(frame, column)
    ]
    return pl.DataFrame(rows, schema=slice_schema(task))


def slice_schema(task: Task) -> dict[str, pl.DataType]:
    """The columns of `slice_metrics`, by name."""
    names: dict[str, pl.DataType] = {"slice": pl.String(), "value": pl.String()}
    names |= dict.fromkeys(["rows", "unlabelled", "positives"], pl.Int64())
    names |= dict.fromkeys(task.metric_names, pl.Float64())
    return names | {"note": pl.String()}


def _parts(frame: pl.DataFrame, column: str) -> list[tuple[object, pl.DataFrame]]:
    parts = [(key[0], part) for key, part in frame.partition_by(column, as_dict=True).items()]
    return sorted(parts, key=lambda item: (-item[1].height, _spell(item[0])))


def _spell(value: object) -> str:
    return NULL_VALUE if value is None else str(value)


def _measure(
    part: pl.DataFrame, *, threshold: float, task: Task, label: str, score: str, minimum_rows: int
) -> dict[str, object]:
    y, scores = labelled(part, label=label, score=score)
    counts = {"rows": len(y), "unlabelled": part.height - len(y), "positives": int((y == 1).sum())}
    if len(y) < minimum_rows:
        return counts | {"note": f"too small: {len(y)} labelled rows, fewer than {minimum_rows}"}
    why = reasons(y, scores, threshold=threshold, task=task)
    note = "; ".join(f"{name}: {reason}" for name, reason in why.items())
    return counts | evaluate(y, scores, threshold=threshold, task=task) | {"note": note}
