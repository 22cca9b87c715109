"""Monitoring over the lake: reports for windows that are new or have changed, and what the latest one says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from ml_assets import keys
from ml_assets.evaluation.plots import timeline_plot
from ml_assets.lake import Lake
from ml_assets.monitoring.drift import DriftPolicy, DriftReport, drift_verdict
from ml_assets.monitoring.performance import MOMENT, PerformanceReport, performance
from ml_assets.monitoring.windows import Window, windows
from ml_assets.packaging.champion import Champion
from ml_assets.tasks import Metric


@dataclass(frozen=True)
class DaysOf:
    """A table by days: its partitions, or the days of `event_timestamp` (UTC) of a table that has none."""

    lake: Lake
    name: str
    days: Sequence[str]
    whole: bool

    def read(self, days: Sequence[str]) -> pl.DataFrame:
        """Return the rows of the days; without any day, no rows of the table's columns."""
        if self.whole:
            return self.lake.scan(self.name).filter(_day().is_in(list(days))).collect()
        return self.lake.read(self.name, days) if days else self.lake.scan(self.name).clear().collect()

    def version(self, days: Sequence[str]) -> str:
        """Return one version for the rows of the days."""
        return self.lake.version(self.name) if self.whole else self.lake.version(self.name, days)


def days_of(lake: Lake, table: str) -> DaysOf:
    """Return a table by days."""
    if lake.manifest(table) is None:
        return DaysOf(lake, table, lake.partitions(table), whole=False)
    days = lake.scan(table).select(_day().unique().sort()).collect().to_series()
    return DaysOf(lake, table, days.to_list(), whole=True)


def _day() -> pl.Expr:
    return pl.col("event_timestamp").dt.date().dt.to_string()


@dataclass(frozen=True)
class WindowDrift:
    """One window's report and the name of its HTML page in the folder of reports."""

    window: Window
    report: DriftReport
    html: str


@dataclass(frozen=True)
class LatestDrift:
    """What the latest stored window says, and how many windows there are."""

    first: str
    last: str
    verdict: str
    reason: str
    rows: int
    limit: float
    html: str
    frame: pl.DataFrame
    markdown: str
    count: int

    @property
    def drifted(self) -> list[str]:
        """Return the features with an alarm."""
        return self.frame.filter(pl.col("signs") != "")["feature"].to_list()


@dataclass(frozen=True)
class Performance:
    """Realised performance on live predictions, and the champion's metrics on its test split to compare with."""

    report: PerformanceReport
    expected: dict[str, float]


def report_drift(
    lake: Lake,
    problem: str,
    champion: Champion,
    *,
    policy: DriftPolicy,
    window_days: int,
    reports: Path,
    now: datetime,
) -> list[WindowDrift]:
    """Compare each window whose predictions or champion changed with the champion's training rows; store the result.

    Stored as `<problem>/drift_report`, partitioned by the window's first day: one row per feature.
    """
    table = days_of(lake, keys.problem(problem, "predictions"))
    due = [
        (window, inputs)
        for window in windows(table.days, anchor=champion.live_from.date(), length=window_days)
        if (inputs := _inputs(table, window, champion)) != _stored_inputs(lake, problem, window)
    ]
    if not due:
        return []
    reference = training_rows(lake, problem, champion)
    made = []
    for window, inputs in due:
        current = _of_champion(table.read(window.days), champion)
        report = drift_verdict(reference, current, features=champion.bundle.features, policy=policy)
        html = _write_html(
            reports / f"{window.first}.html", reference, current, champion.bundle.features, window, report
        )
        frame = _stored_form(report, window, html, policy)
        lake.write(_reports(problem), frame, partition=window.first, written_at=now, inputs=inputs)
        made.append(WindowDrift(window, report, html))
    return made


def training_rows(lake: Lake, problem: str, champion: Champion) -> pl.DataFrame:
    """Return the rows of the train split that the champion was fitted on, also when newer training sets came since."""
    frame = lake.scan_version(keys.problem(problem, "training_set"), champion.data_hash)
    return frame.filter(pl.col("split") == "train").collect()


def latest_drift(lake: Lake, problem: str) -> LatestDrift | None:
    """Return what the latest stored window says, or None."""
    found = lake.partitions(_reports(problem))
    if not found:
        return None
    frame = lake.read(_reports(problem), found[-1:])
    first = frame.row(0, named=True)
    return LatestDrift(
        first=first["window_first"],
        last=first["window_last"],
        verdict=first["window_verdict"],
        reason=first["window_reason"],
        rows=frame.select(pl.col("current_rows").max()).item() or 0,
        limit=first["limit"],
        html=first["html"],
        frame=frame,
        markdown=first["markdown"],
        count=len(found),
    )


def report_performance(
    lake: Lake, problem: str, champion: Champion, *, key: Sequence[str], now: datetime
) -> Performance:
    """Measure the champion's live predictions on the outcomes known by `now`, and store the periods.

    Live is what lies after the test split. Stored as `<problem>/performance_report`: one row per week.
    """
    predicted, observed = (days_of(lake, keys.problem(problem, part)) for part in ("predictions", "observations"))
    days = [day for day in predicted.days if day >= keys.day(champion.live_from)]
    predictions, labels = _of_champion(predicted.read(days), champion), observed.read(days)
    start = champion.live_from
    report = performance(
        predictions.filter(pl.col("event_timestamp") >= start),
        labels,
        now=now,
        task=champion.bundle.task,
        threshold=champion.bundle.threshold,
        key=[*key, MOMENT],  # one observation: of the same thing it may be asked again and again
        window_start=start,
        window_end=max(_end(days), start + timedelta(days=1)),
    )
    overall = replace(report, periods=(report.overall,)).to_frame()
    lake.write(keys.problem(problem, "performance_report"), report.to_frame(), written_at=now)
    lake.write(keys.problem(problem, "performance_summary"), overall, written_at=now)
    return Performance(report, champion.test_metrics)


def latest_performance(lake: Lake, problem: str) -> dict[str, Any] | None:
    """Return the stored measure over all live predictions (counts, status, metrics that apply), or None."""
    if lake.manifest(keys.problem(problem, "performance_summary")) is None:
        return None
    row = lake.read(keys.problem(problem, "performance_summary")).row(0, named=True)
    return {column: value for column, value in row.items() if value is not None}


def within_tolerance(found: Performance, metric: Metric, tolerance: float) -> tuple[bool, str]:
    """Tell whether the realised metric is not worse than the test's by more than `tolerance`, and why."""
    value, expected = found.report.metrics.get(metric.name), found.expected.get(metric.name)
    if value is None or expected is None:
        return False, f"{metric.name} is not known yet: {found.report.status}"
    loss = expected - value if metric.greater_is_better else value - expected
    text = f"{metric.name} is {value:.4f}, on the test split it was {expected:.4f}; tolerated loss {tolerance}"
    return loss <= tolerance, text


def performance_plot(found: Performance, metric: Metric, tolerance: float) -> bytes:
    """Return the metric by week as a PNG, with the test's value and the limit."""
    expected = found.expected.get(metric.name)
    sign = -1 if metric.greater_is_better else 1
    return timeline_plot(
        [period.start for period in found.report.periods],
        [period.metrics.get(metric.name) for period in found.report.periods],
        metric=metric.name,
        expected=expected,
        limit=None if expected is None else expected + sign * tolerance,
    )


def _reports(problem: str) -> str:
    return keys.problem(problem, "drift_report")


def _inputs(table: DaysOf, window: Window, champion: Champion) -> dict[str, str]:
    return {table.name: table.version(window.days), "champion": f"{champion.version} {champion.data_hash}"}


def _stored_inputs(lake: Lake, problem: str, window: Window) -> dict[str, str] | None:
    manifest = lake.manifest(_reports(problem), window.first)
    return dict(manifest.inputs) if manifest else None


def _of_champion(predictions: pl.DataFrame, champion: Champion) -> pl.DataFrame:
    if "model_version" not in predictions.columns:
        return predictions
    return predictions.filter(pl.col("model_version") == champion.version)


def _stored_form(report: DriftReport, window: Window, html: str, policy: DriftPolicy) -> pl.DataFrame:
    return report.to_frame().with_columns(
        window_first=pl.lit(window.first),
        window_last=pl.lit(window.last),
        window_verdict=pl.lit(report.verdict),
        window_reason=pl.lit(_reason(report, window)),
        limit=pl.lit(policy.psi),
        html=pl.lit(html),
        markdown=pl.lit(report.markdown()),
    )


def _reason(report: DriftReport, window: Window) -> str:
    missing = [] if window.complete else [f"{len(window.days)} days of the window so far"]
    return "; ".join([report.reason, *missing])


def _write_html(
    path: Path,
    reference: pl.DataFrame,
    current: pl.DataFrame,
    columns: Sequence[str],
    window: Window,
    report: DriftReport,
) -> str:
    from ml_assets.monitoring.evidently import drift_html

    title = f"{window.first} to {window.last}: {report.verdict}, {_reason(report, window)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(drift_html(reference, current, columns=columns, summary=[title]))
    return draft.replace(path).name


def _end(days: Sequence[str]) -> datetime:
    if not days:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.fromisoformat(days[-1]).replace(tzinfo=UTC) + timedelta(days=1)
