"""Whether the challenger takes office: compared with the champion on rows that neither has seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ml_assets.packaging.champion import Champion
from ml_assets.tasks import Metric

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Decision:
    """Whether to promote, and why, in words for the log."""

    promote: bool
    reason: str


@dataclass(frozen=True)
class Boundaries:
    """The model was fitted or selected on rows before `fitted_until`; rows from `live_from` on are neither that nor test."""

    fitted_until: datetime
    live_from: datetime


def boundaries(training_set: pl.DataFrame) -> Boundaries:
    """Return the days (midnight, UTC) on which the test split begins and after which it has ended."""
    test = training_set.filter(pl.col("split") == "test")["event_timestamp"]
    first, last = test.dt.truncate("1d").min(), test.dt.truncate("1d").max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    return Boundaries(first, last + DAY)


def decide(
    training_set: pl.DataFrame, challenger: float | None, champion: Champion | None, metric: Metric, *, digest: str
) -> Decision:
    """Compare the challenger's test metric with the champion's on the same rows. A tie leaves the champion in office."""
    if challenger is None:
        return Decision(False, f"{metric.name} does not apply to the challenger's test rows")
    if champion is None:
        return Decision(True, f"the first champion: {metric.name} {challenger:.4f} on the test split, all gates passed")
    if champion.bundle.digest == digest:
        return Decision(False, f"version {champion.version} is this very bundle, in office already")
    edges = boundaries(training_set)
    if champion.fitted_until > edges.fitted_until:
        return Decision(
            False,
            f"version {champion.version} was fitted on rows up to {champion.fitted_until:%Y-%m-%d}, the test split begins "
            f"{edges.fitted_until:%Y-%m-%d}: a comparison on it would favour the champion; deliver newer data",
        )
    test = training_set.filter(pl.col("split") == "test")
    value = metric.compute(test["label"].to_numpy(), champion.bundle.predict(test), champion.bundle.threshold)
    if value is None:
        return Decision(False, f"{metric.name} does not apply to the champion on the test split")
    words = f"{metric.name} on the same test rows: challenger {challenger:.4f}, champion {champion.version} {value:.4f}"
    return Decision(metric.better(challenger, value), words)
