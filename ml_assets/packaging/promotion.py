"""Whether the challenger takes office: compared with the champion on rows that neither has seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from ml_assets.evaluation.fairness import unfair, unseen
from ml_assets.packaging.bundle import Bundle
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


def boundaries(training_set: pl.DataFrame, *, by_time: bool = True) -> Boundaries:
    """Return the days (midnight, UTC) on which the test split begins and after which it has ended.

    At random any day may have rows of any split: then both are the day after the last row.
    """
    rows = training_set.filter(pl.col("split") == "test") if by_time else training_set
    days = rows["event_timestamp"].dt.truncate("1d")
    first, last = days.min(), days.max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    return Boundaries(first if by_time else last + DAY, last + DAY)


def decide(
    training_set: pl.DataFrame,
    challenger: Bundle,
    champion: Champion | None,
    metric: Metric,
    *,
    seen: pl.DataFrame | None = None,
) -> Decision:
    """Compare challenger and champion by the metric on test rows that neither has seen. A tie leaves the champion in office.

    By time, that is the test split, unless the champion was fitted on rows of it. Of a random split `seen` names the rows that the
    champion was fitted or selected on (see `seen_rows`), which are left out.
    """
    test = training_set.filter(pl.col("split") == "test")
    value = _measured(challenger, test, metric)
    if value is None:
        return Decision(False, f"{metric.name} does not apply to the challenger's test rows")
    if champion is None:
        return Decision(True, f"the first champion: {metric.name} {value:.4f} on the test split, all gates passed")
    if champion.bundle.digest == challenger.digest:
        return Decision(False, f"version {champion.version} is this very bundle, in office already")
    rows = test if seen is None else test[unseen(test, seen)]
    if why := unfair(champion, rows, by_time=seen is None):
        return Decision(
            False, f"version {champion.version} cannot be compared on the test rows: {why}; deliver newer data"
        )
    mine = value if rows.height == test.height else _measured(challenger, rows, metric)
    theirs = _measured(champion.bundle, rows, metric)
    if mine is None or theirs is None:
        both = f"the {rows.height} test rows that are new to both"
        return Decision(False, f"{metric.name} does not apply to challenger ({mine}) and champion ({theirs}) on {both}")
    words = f"{metric.name} on the same test rows: challenger {mine:.4f}, champion {champion.version} {theirs:.4f}"
    return Decision(metric.better(mine, theirs), words)


def _measured(bundle: Bundle, rows: pl.DataFrame, metric: Metric) -> float | None:
    if rows.is_empty():
        return None
    return metric.compute(bundle.truth(rows), bundle.predict(rows), bundle.threshold)
