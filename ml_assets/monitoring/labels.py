"""The ledger of labels: of each day's predictions, how many labels came, will never come, disagree, or are waited for.

A day is mature when waiting longer would change little: its realised performance can then be believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

MATURE_SHARE = 0.98
"""Share of the labels that can come from which a day is mature, and the quantile of delays that is learnt."""
SLACK = timedelta(days=1)
"""So much later than declared or learnt a label may come before it is overdue: deliveries are daily."""
LEAST_LABELS = 100
"""Labels from which a delay is learnt."""
HALF = 0.5
"""Share of its labels that a day must have to be mature by the calendar: of fewer, nobody knows what the others say."""

Rule = Literal["all in", "declared delay", "learnt delay", ""]
DAY = timedelta(days=1)
SCHEMA: dict[str, Any] = {
    "day": pl.String,
    "expected": pl.Int64,
    "arrived": pl.Int64,
    "never": pl.Int64,
    "contradictory": pl.Int64,
    "pending": pl.Int64,
    "overdue": pl.Int64,
    "early": pl.Int64,
    "late_share": pl.Float64,
    "mature": pl.Boolean,
    "mature_at": pl.Datetime("us", "UTC"),
    "rule": pl.String,
}


@dataclass(frozen=True)
class Delay:
    """How long labels take: the delay that counts, and whether it is `declared` or `learnt`; None when nobody knows."""

    length: timedelta | None
    rule: Rule


def ledger(
    rows: pl.DataFrame, *, now: datetime, declared: timedelta | None = None, mature_share: float = MATURE_SHARE
) -> pl.DataFrame:
    """Return one row for each day (UTC, of event_timestamp) with predictions out of sample, oldest first; columns of `SCHEMA`.

    rows: `performance.Matched.rows`. expected = arrived + never + contradictory + pending. overdue: pending rows for which the
    delay that counts, and `SLACK`, have passed. early: labels known before the prediction was made, which is a leak or a
    wrong clock. late_share: share of the labels that came later than declared, null when nothing is declared.

    A day is mature when `mature_share` of the labels that can come have come (rule "all in"), or when the declared delay, or else
    the one learnt from the days that have all in, has passed since its end and at least half have come. `mature_at` is when
    that was so or will be; null when nobody knows.
    """
    days = _counts(rows, declared, mature_share)
    delay = delay_that_counts(rows, declared=declared, mature_share=mature_share)
    can = pl.col("expected") - pl.col("never")
    came = pl.col("arrived") + pl.col("contradictory")
    full = came >= mature_share * can
    due = pl.col("end") + (delay.length or timedelta(0)) + SLACK if delay.length is not None else pl.lit(None, _TIME)
    passed = (due <= now).fill_null(False)
    timely = passed & (came >= HALF * can)
    return (
        days.with_columns(
            overdue=pl.when(passed).then("pending").otherwise(0),
            mature=full | timely,
            mature_at=pl.when(full).then(pl.coalesce("reached", "end")).otherwise(due),
            rule=pl.when(full).then(pl.lit("all in")).when(timely).then(pl.lit(delay.rule)).otherwise(pl.lit("")),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())
        .sort("day")
    )


def delay_that_counts(rows: pl.DataFrame, *, declared: timedelta | None, mature_share: float = MATURE_SHARE) -> Delay:
    """Return the declared delay; else the `mature_share` quantile of the delays on days that have all their labels in."""
    if declared is not None:
        return Delay(declared, "declared delay")
    days = _counts(rows, None, mature_share)
    full = days.filter(
        pl.col("arrived") + pl.col("contradictory") >= mature_share * (pl.col("expected") - pl.col("never"))
    )
    delays = _delays(rows.filter(_day().is_in(full["day"].to_list())))
    if len(delays) < LEAST_LABELS:
        return Delay(None, "")
    return Delay(_quantile(delays, mature_share), "learnt delay")


@dataclass(frozen=True)
class Lateness:
    """What labels' delays say about the declared one; `passed` is None when nothing can be said, `reason` says why."""

    passed: bool | None
    reason: str


def lateness(
    rows: pl.DataFrame, days: pl.DataFrame, *, declared: timedelta | None, mature_share: float = MATURE_SHARE
) -> Lateness:
    """Tell whether labels come as declared: no more than 1 - `mature_share` of those due are later than that, or still missing.

    rows: `performance.Matched.rows`; days: their `ledger`. A label before its prediction is a fault in any case.
    """
    delays, early = _delays(rows), int(days["early"].sum())
    if early:
        return Lateness(
            False, f"{early:,} labels were known before their prediction was made: a leak, or a wrong clock"
        )
    known = f"{mature_share:.0%} of {len(delays):,} labels came within {_spoken(_quantile(delays, mature_share))}"
    if declared is None:
        return Lateness(None, f"availability.label_delay is not declared; {known}" if len(delays) else _nothing(days))
    late, overdue = int((delays > declared).sum()), int(days["overdue"].sum())
    due = len(delays) + overdue
    if not due:
        return Lateness(None, _nothing(days))
    said = f"{known if len(delays) else 'no label came'}; declared {_spoken(declared)}: {late:,} later, {overdue:,} overdue"
    return Lateness(late + overdue <= (1 - mature_share) * due, said)


_TIME = pl.Datetime("us", "UTC")


def _nothing(days: pl.DataFrame) -> str:
    never = int(days["never"].sum())
    return "no label has come, and " + (f"{never:,} will never come" if never else "none is due yet")


def _counts(rows: pl.DataFrame, declared: timedelta | None, mature_share: float) -> pl.DataFrame:
    """Return each day's counts, its `end`, and when the share was `reached` (null when it never was)."""
    came = pl.col("state").is_in(["matured", "contradictory"])
    least = (mature_share * (pl.len() - (pl.col("state") == "never").sum())).ceil().cast(pl.Int64)
    delay = pl.col("known") - pl.col("event_timestamp")
    late = pl.lit(None, pl.Float64) if declared is None else (delay.filter(came) > declared).mean()
    states = {"arrived": "matured", "never": "never", "contradictory": "contradictory", "pending": "pending"}
    return (
        rows.filter(pl.col("state") != "in sample")
        .group_by(day=_day())
        .agg(
            expected=pl.len(),
            **{name: (pl.col("state") == state).sum() for name, state in states.items()},
            early=(delay.filter(came) < timedelta(0)).sum(),
            late_share=late,
            reached=pl.col("known").filter(came).sort().get(least - 1, null_on_oob=True),
        )
        .with_columns(end=pl.col("day").str.to_datetime("%Y-%m-%d", time_unit="us", time_zone="UTC") + DAY)
    )


def _delays(rows: pl.DataFrame) -> pl.Series:
    came = rows.filter(pl.col("state").is_in(["matured", "contradictory"]))
    return came.select(pl.col("known") - pl.col("event_timestamp")).to_series().drop_nulls()


def _quantile(delays: pl.Series, share: float) -> timedelta:
    if not len(delays):
        return timedelta(0)
    return timedelta(microseconds=int(delays.dt.total_microseconds().quantile(share, "higher") or 0))


def _spoken(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours:.3g} hours" if hours < 48 else f"{hours / 24:.3g} days"


def _day() -> pl.Expr:
    return pl.col("event_timestamp").dt.date().dt.to_string()
