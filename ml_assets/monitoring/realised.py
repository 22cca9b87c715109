"""Realised performance over the lake: the champion's live predictions against the outcomes that are known by now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from ml_assets import keys
from ml_assets.evaluation.plots import timeline_plot
from ml_assets.lake import Lake
from ml_assets.monitoring.performance import MOMENT, PerformanceReport, performance
from ml_assets.monitoring.tables import days_of, of_champion
from ml_assets.packaging.champion import Champion
from ml_assets.tasks import Metric


@dataclass(frozen=True)
class Performance:
    """Realised performance on live predictions, and the champion's metrics on its test split to compare with."""

    report: PerformanceReport
    expected: dict[str, float]


def report_performance(
    lake: Lake, problem: str, champion: Champion, *, key: Sequence[str], now: datetime
) -> Performance:
    """Measure the champion's live predictions on the outcomes known by `now`, and store the periods.

    Live is what lies after the test split. Stored as `<problem>/performance_report`: one row per week.
    """
    predicted, observed = (days_of(lake, keys.problem(problem, part)) for part in ("predictions", "observations"))
    days = [day for day in predicted.days if day >= keys.day(champion.live_from)]
    predictions, labels = of_champion(predicted.read(days), champion), observed.read(days)
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


def _end(days: Sequence[str]) -> datetime:
    if not days:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.fromisoformat(days[-1]).replace(tzinfo=UTC) + timedelta(days=1)
