"""Evidently's drift report as HTML: for looking at. The verdict that counts is ours, in `drift`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from ml_assets.evaluation.evidently import (
    SAMPLE_ROWS,
    bounded_sample,
    dataset,
    html_of,
    page,
    sample_note,
    with_summary,
)
from ml_assets.monitoring.errors import MonitoringError

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

TITLE = "Data drift"
LEAST_ROWS = 2


class DriftRun(NamedTuple):
    """Evidently's report as an HTML page, and as a run for a workspace; None when there was nothing to compare."""

    html: str
    run: Snapshot | None


def drift_run(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    *,
    columns: Sequence[str],
    summary: Sequence[str] = (),
    sample_rows: int = SAMPLE_ROWS,
    seed: int = 0,
    **told: Any,
) -> DriftRun:
    """Evidently's data drift preset over `columns`, and one self-contained HTML page of it (about 4 MB, a few seconds).

    Evidently fails on columns that are missing, without a value or constant: they are left out, and the page says which
    and why, below the lines of `summary`. Made from at most `sample_rows` rows a side, the same ones for the same seed.
    With no column left the page is a small one that says so. `told` goes to `Report.run`: name, timestamp, tags. Raises a
    MonitoringError when `columns` is empty.
    """
    if not columns:
        raise MonitoringError("columns is empty: name the columns to compare")
    before, now = (
        bounded_sample(reference, rows=sample_rows, seed=seed),
        bounded_sample(current, rows=sample_rows, seed=seed),
    )
    left_out = {column: why for column in columns if (why := _unfit(before, now, column))}
    fit = [column for column in columns if column not in left_out]
    notes = [sample_note("reference", reference, before), sample_note("current window", current, now)]
    notes += [f"left out: {column} ({why})" for column, why in left_out.items()]
    if not fit:
        return DriftRun(with_summary(page(TITLE, [*notes, "No column is left to compare."]), summary), None)
    run = _report(before, now, fit, told)
    return DriftRun(with_summary(html_of(run, notes), summary), run)


def _report(before: pl.DataFrame, now: pl.DataFrame, columns: list[str], told: Mapping[str, Any]) -> Snapshot:
    from evidently import DataDefinition, Report
    from evidently.presets import DataDriftPreset

    numbers = [column for column in columns if before[column].dtype.is_numeric()]
    texts = [column for column in columns if column not in numbers]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    sides = {"current": _prepare(now, numbers, texts), "reference": _prepare(before, numbers, texts)}
    data = {name: dataset(frame, definition) for name, frame in sides.items()}
    return Report([DataDriftPreset(columns=columns)]).run(data["current"], data["reference"], **told)


def _prepare(frame: pl.DataFrame, numbers: list[str], texts: list[str]) -> pl.DataFrame:
    finite = [
        pl.when(pl.col(name).cast(pl.Float64).is_finite()).then(pl.col(name).cast(pl.Float64)) for name in numbers
    ]
    return frame.select(*finite, pl.col(texts).cast(pl.String))


def _unfit(before: pl.DataFrame, now: pl.DataFrame, column: str) -> str | None:
    """Why Evidently cannot compare this column, or None when it can."""
    for name, frame in (("reference", before), ("current window", now)):
        if column not in frame.columns:
            return f"no such column in the {name}"
        values = _values(frame[column])
        if len(values) < LEAST_ROWS:
            return f"{len(values)} values in the {name}"
    if before[column].dtype.is_numeric() != now[column].dtype.is_numeric():
        return f"the type changed from {before[column].dtype} to {now[column].dtype}"
    if _values(before[column]).n_unique() == 1 and _values(now[column]).n_unique() == 1:
        return "constant on both sides"
    return None


def _values(column: pl.Series) -> pl.Series:
    """The values that Evidently would see: not null, and finite."""
    known = column.drop_nulls()
    return known.filter(known.is_finite()) if known.dtype.is_float() else known
