"""The story of a problem in production, read from what the reports stored beside the lake.

A report that was never made is named, and what it would have told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ml_assets import keys
from ml_assets.lake import Lake
from ml_assets.monitoring.alerts import Alert
from ml_assets.monitoring.channels import sent
from ml_assets.monitoring.retraining import Decision, decisions
from ml_assets.packaging.history import Promotion, history

TABLES = {
    "drift_report": "which features drifted, window by window",
    "performance_report": "how good the answers were, week by week",
    "kpi_report": "what the decisions earned, day by day",
    "label_ledger": "how many outcomes came, and how many are waited for",
}
DRIFT_COLUMNS: dict[str, Any] = {
    "window_first": pl.String,
    "window_last": pl.String,
    "window_verdict": pl.String,
    "window_reason": pl.String,
    "feature": pl.String,
    "verdict": pl.String,
    "signs": pl.String,
    "psi": pl.Float64,
    "limit": pl.Float64,
}


@dataclass(frozen=True)
class Event:
    """Something that happened at a moment: its kind (promotion, decision, alert, drift), and words."""

    at: datetime
    kind: str
    text: str


@dataclass(frozen=True, eq=False)
class Story:
    """What is stored of a problem in production. Frames are empty where a report was never made; `absent` says which.

    `drift` has one row for each window and feature (`DRIFT_COLUMNS`); the others are as their reports write them, in order of
    time, `performance` with the weeks of earlier models.
    """

    problem: str
    drift: pl.DataFrame
    performance: pl.DataFrame
    kpi: pl.DataFrame
    labels: pl.DataFrame
    decisions: Sequence[Decision]
    promotions: Sequence[Promotion]
    alerts: Sequence[Alert]
    absent: Mapping[str, str]

    @property
    def windows(self) -> pl.DataFrame:
        """Return one row for each window of the drift report: its days, verdict, reason, and the features with an alarm."""
        named = pl.col("feature").filter(pl.col("signs") != "").sort().str.join(", ").alias("features")
        whole = [pl.col(name).first() for name in ("window_last", "window_verdict", "window_reason")]
        return self.drift.group_by("window_first").agg(*whole, named).sort("window_first")

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """Return the first and the last moment of the story, at least a week apart; None of a story without any."""
        found = [*self._moments(), *(event.at for event in self.events())]
        return (min(found), max(*found, min(found) + timedelta(days=7))) if found else None

    def events(self) -> list[Event]:
        """Return what happened, in order of time."""
        found = [*self._promoted(), *self._decided(), *self._alerted(), *self._drifted()]
        return sorted(found, key=lambda event: event.at)

    def _moments(self) -> Iterator[datetime]:
        for frame, column in ((self.drift, "window_first"), (self.kpi, "day"), (self.labels, "day")):
            if not frame.is_empty():
                yield from (moment(frame[column].min()), moment(frame[column].max()) + timedelta(days=1))
        for column in ("start", "end"):
            yield from self.performance[column] if column in self.performance.columns else ()

    def _promoted(self) -> Iterator[Event]:
        for one in self.promotions:
            place = f" in place of {one.replaced}" if one.replaced else ""
            yield Event(one.when, one.kind, f"version {one.version} took office{place}: {one.why}")

    def _decided(self) -> Iterator[Event]:
        for one in self.decisions:
            yield Event(one.at, one.outcome, one.reason)

    def _alerted(self) -> Iterator[Event]:
        for one in self.alerts:
            yield Event(one.at, "resolved" if one.resolved else "alert", f"{one.title}: {one.text}")

    def _drifted(self) -> Iterator[Event]:
        for row in self.windows.filter(pl.col("window_verdict") == "drift").iter_rows(named=True):
            at = moment(row["window_last"]) + timedelta(days=1)
            yield Event(at, "drift", f"{row['window_first']} to {row['window_last']}: {row['window_reason']}")


def story(lake: Lake, problem: str) -> Story:
    """Read what the reports stored."""
    absent = {part: why for part, why in TABLES.items() if not _made(lake, problem, part)}
    whole = {part: _whole(lake, problem, part) for part in TABLES if part != "drift_report"}
    return Story(
        problem=problem,
        drift=_drift(lake, problem),
        performance=_performance(lake, problem, whole["performance_report"]),
        kpi=whole["kpi_report"],
        labels=whole["label_ledger"],
        decisions=decisions(lake.store, problem),
        promotions=history(lake.store, problem),
        alerts=sent(lake.store, problem),
        absent=absent,
    )


def moment(day: Any) -> datetime:
    """Return the beginning (UTC) of a day such as 2013-06-01."""
    return datetime.fromisoformat(f"{day}T00:00:00+00:00")


def _made(lake: Lake, problem: str, part: str) -> bool:
    table = keys.problem(problem, part)
    return bool(lake.partitions(table)) or lake.manifest(table) is not None


def _whole(lake: Lake, problem: str, part: str) -> pl.DataFrame:
    """Return a table in order of time: whole, or all of its partitions; empty when it was never written."""
    if not _made(lake, problem, part):
        return pl.DataFrame()
    table = keys.problem(problem, part)
    parts = lake.partitions(table)
    frames = [lake.read(table, [one]) for one in parts] if parts else [lake.read(table)]
    frame = pl.concat(frames, how="diagonal_relaxed")
    return frame.sort("start" if "start" in frame.columns else "day")


def _performance(lake: Lake, problem: str, current: pl.DataFrame) -> pl.DataFrame:
    """Return the weeks of the model in office after those of models before it."""
    earlier = _whole(lake, problem, "performance_earlier")
    return pl.concat([earlier, current], how="diagonal_relaxed").sort("start") if earlier.height else current


def _drift(lake: Lake, problem: str) -> pl.DataFrame:
    """Return the rows of all windows, also of those that an earlier version of the report wrote."""
    table, empty = keys.problem(problem, "drift_report"), pl.DataFrame(schema=DRIFT_COLUMNS)
    read = (lake.read(table, [window]) for window in lake.partitions(table))
    frames = [frame.select([name for name in DRIFT_COLUMNS if name in frame.columns]) for frame in read]
    return pl.concat([empty, *frames], how="diagonal_relaxed").sort("window_first", "feature")
