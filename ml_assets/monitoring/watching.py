"""Monitoring over the lake: reports for windows that are new or have changed, and what the latest one says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from ml_assets import keys
from ml_assets.lake import Lake
from ml_assets.monitoring.drift import DriftPolicy, DriftReport, drift_verdict
from ml_assets.monitoring.realised import latest_performance, performance_plot, report_performance, within_tolerance
from ml_assets.monitoring.tables import DaysOf, days_of, of_champion
from ml_assets.monitoring.windows import Window, windows
from ml_assets.packaging.champion import Champion

__all__ = [
    "LatestDrift",
    "WindowDrift",
    "days_of",
    "latest_drift",
    "latest_performance",
    "performance_plot",
    "report_drift",
    "report_performance",
    "training_rows",
    "within_tolerance",
]


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
        current = of_champion(table.read(window.days), champion)
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


def _reports(problem: str) -> str:
    return keys.problem(problem, "drift_report")


def _inputs(table: DaysOf, window: Window, champion: Champion) -> dict[str, str]:
    return {table.name: table.version(window.days), "champion": f"{champion.version} {champion.data_hash}"}


def _stored_inputs(lake: Lake, problem: str, window: Window) -> dict[str, str] | None:
    manifest = lake.manifest(_reports(problem), window.first)
    return dict(manifest.inputs) if manifest else None


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
