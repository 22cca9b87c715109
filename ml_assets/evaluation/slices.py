"""Metrics per slice: how well the model does for each value of a column, or for each range of a number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from ml_assets.evaluation.metrics import Answered, EvaluationError
from ml_assets.tasks import Task

NULL_VALUE = "(null)"
RANGES = 5
MOST_FRACTIONS, MOST_INTEGERS = 12, 50
"""Distinct numbers up to which a column is sliced by value; of more, by ranges of about equally many rows."""
MOST_SLICES = 50
"""Slices of one column; the rows of rarer values are one more together."""


def slice_metrics(rows: Answered, by: Sequence[str], *, minimum_rows: int = 100) -> pl.DataFrame:
    """Metrics for each value of each column in `by`, one row per slice, the largest slice of a column first.

    Columns: slice, value (String; null values are one slice, "(null)"), rows (with a label), unlabelled (rows
    without), outcomes (the labels in a few words), one Float64 column per metric of the task, note. A slice with fewer than
    `minimum_rows` labelled rows keeps its row, with null metrics and a note; so does a metric that does not apply. Numbers of
    many different values are sliced by ranges; of many texts the rarest are one slice.
    """
    missing = [column for column in by if column not in rows.frame.columns]
    if missing:
        raise EvaluationError(f"slice columns {missing} do not exist; the frame has: {', '.join(rows.frame.columns)}")
    found = [
        {"slice": column, "value": value} | _measure(rows.take(index), unlabelled, minimum_rows)
        for column in by
        for value, index, unlabelled in parts(rows, column)
    ]
    return pl.DataFrame(found, schema=slice_schema(rows.task))


def slice_schema(task: Task) -> dict[str, pl.DataType]:
    """The columns of `slice_metrics`, by name."""
    names: dict[str, pl.DataType] = {"slice": pl.String(), "value": pl.String()}
    names |= {"rows": pl.Int64(), "unlabelled": pl.Int64(), "outcomes": pl.String()}
    names |= dict.fromkeys(task.metric_names, pl.Float64())
    return names | {"note": pl.String()}


def parts(rows: Answered, column: str) -> list[tuple[str, np.ndarray, int]]:
    """Return each value of a column (or range of values), the places of its labelled rows, and how many have no label."""
    values = _spelled(pl.concat([rows.frame[column], rows.unlabelled[column]]))
    table = pl.DataFrame({"value": values, "place": np.arange(len(values))})
    labelled = pl.col("place") < len(rows)
    grouped = table.group_by("value").agg(
        pl.col("place").filter(labelled).sort(), unlabelled=(~labelled).sum(), rows=pl.len()
    )
    ordered = grouped.sort(["rows", "value"], descending=[True, False])
    found = [(row["value"], np.array(row["place"], dtype=np.int64), row["unlabelled"]) for row in ordered.to_dicts()]
    rare = found[MOST_SLICES:]
    if len(rare) < 2:
        return found
    places = np.sort(np.concatenate([place for _, place, _ in rare]))
    others = f"({len(rare):,} other values)"
    return [*found[:MOST_SLICES], (others, places, sum(unlabelled for _, _, unlabelled in rare))]


def _spelled(column: pl.Series) -> pl.Series:
    """Each value as text; of many different numbers, the range that it is in."""
    finite = column.fill_nan(None) if column.dtype.is_float() else column
    most = MOST_FRACTIONS if column.dtype.is_float() else MOST_INTEGERS
    if column.dtype.is_numeric() and finite.n_unique() > most:
        return _ranges(finite.cast(pl.Float64))
    return column.cast(pl.String).fill_null(NULL_VALUE)


def _ranges(column: pl.Series) -> pl.Series:
    known = column.drop_nulls().to_numpy()
    edges = np.unique(np.quantile(known, np.arange(1, RANGES) / RANGES)).tolist()
    names = np.array(
        [
            f"{_bound(low, 'above')}{_bound(high, 'up to', joined=low is not None)}"
            for low, high in zip([None, *edges], [*edges, None], strict=True)
        ]
    )
    place = np.searchsorted(edges, column.fill_null(0.0).to_numpy(), side="left")
    return pl.Series(names[place].tolist()).set(column.is_null(), NULL_VALUE)


def _bound(edge: float | None, word: str, *, joined: bool = False) -> str:
    return "" if edge is None else f"{' ' if joined else ''}{word} {edge:.4g}"


def _measure(part: Answered, unlabelled: int, minimum_rows: int) -> dict[str, object]:
    counts = {"rows": len(part), "unlabelled": unlabelled, "outcomes": _outcomes(part)}
    if len(part) < minimum_rows:
        return counts | {"note": f"too small: {len(part)} labelled rows, fewer than {minimum_rows}"}
    note = "; ".join(f"{name}: {reason}" for name, reason in part.reasons.items())
    return counts | part.metrics | {"note": note}


def _outcomes(part: Answered) -> str:
    return part.task.describe(part.y) if part.task.supervised else ""
