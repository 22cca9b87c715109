"""Realised performance: predictions measured against the labels that have arrived by now, period by period.

A label counts from its own time on, never earlier; a prediction of a row that the model was trained on never counts;
and a window without enough labels says so instead of looking fine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, cast

import polars as pl

from ml_assets.evaluation.metrics import EvaluationError, evaluate, known_values, labelled, reasons, stored_columns
from ml_assets.monitoring.drift import MonitoringError
from ml_assets.tasks import Task, TaskError

Status = Literal["realised", "unreadable", "too few labels", "nothing matured", "only in-sample rows", "empty window"]

MOMENT = "event_timestamp"
WEEK = timedelta(days=7)
STATES: tuple[str, ...] = ("matured", "pending", "never", "contradictory", "in sample")
PERIOD_SCHEMA: dict[str, Any] = {
    "start": pl.Datetime("us", "UTC"),
    "end": pl.Datetime("us", "UTC"),
    "status": pl.String,
    "note": pl.String,
    "expected": pl.Int64,
    "matured": pl.Int64,
    "pending": pl.Int64,
    "never": pl.Int64,
    "contradictory": pl.Int64,
    "in_sample": pl.Int64,
    "outcomes": pl.String,
    "model_versions": pl.String,
}


@dataclass(frozen=True)
class PeriodPerformance:
    """What is known of the predictions with start <= event_timestamp < end.

    expected = matured + pending + never + contradictory, all out of sample: `matured` have a label by now; `pending`
    have none yet; `never` will not get one (the label is known to be null); `contradictory` have newest labels that
    disagree.
    in_sample rows are counted and left out. `outcomes` are the matured labels in a few words. Metrics are None unless status is
    "realised"; `note` says why.
    """

    start: datetime
    end: datetime
    status: Status
    note: str
    expected: int
    matured: int
    pending: int
    never: int
    contradictory: int
    in_sample: int
    outcomes: str
    model_versions: tuple[str, ...]
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class PerformanceReport:
    """Performance over the whole window, and in each period of it (the last one may be shorter)."""

    now: datetime
    threshold: float
    task: str
    overall: PeriodPerformance
    periods: tuple[PeriodPerformance, ...]
    duplicates: int

    @property
    def status(self) -> Status:
        """The status of the whole window; only "realised" carries metrics."""
        return self.overall.status

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """The metrics of the whole window, by name."""
        return self.overall.metrics

    def to_frame(self) -> pl.DataFrame:
        """One row per period: its counts, and one Float64 column per metric."""
        schema = PERIOD_SCHEMA | dict.fromkeys(self.overall.metrics, pl.Float64)
        return pl.DataFrame([_flat(period) for period in self.periods], schema=schema)

    def to_dict(self) -> dict[str, Any]:
        """The report in plain values that JSON can hold; times in ISO 8601."""
        return json.loads(json.dumps(asdict(self), default=datetime.isoformat, allow_nan=False))

    def counted(self) -> str:
        """The predictions of the whole window in a sentence: which, and what is known of their labels."""
        whole = self.overall
        counts = ", ".join(
            f"{count:,} {name}"
            for name, count in (
                ("expected", whole.expected),
                ("matured", whole.matured),
                ("pending", whole.pending),
                ("never labelled", whole.never),
                ("contradictory", whole.contradictory),
                ("in sample, left out", whole.in_sample),
                ("duplicates, left out", self.duplicates),
            )
            if count or name in ("expected", "matured", "pending")
        )
        window = f"{whole.start:%Y-%m-%d %H:%M} to {whole.end:%Y-%m-%d %H:%M}"
        return f"Predictions from {window}, labels known at {self.now:%Y-%m-%d %H:%M}: {counts}."


@dataclass(frozen=True)
class Matched:
    """Predictions of a window [start, end) with what is known of their labels at `now`, one row for each key.

    Columns of `rows`: key, row (its place in the predictions), event_timestamp, the task's columns of answers, model_version,
    in_sample, label (null unless matured), known (when the label became known), state (one of `STATES`).
    `duplicates`: rows left out, because a later one has their key.
    """

    rows: pl.DataFrame
    now: datetime
    start: datetime
    end: datetime
    duplicates: int


def performance(
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    now: datetime,
    task: Task,
    threshold: float,
    key: str | Sequence[str],
    label: str = "label",
    label_timestamp: str = "label_timestamp",
    window_start: datetime | None = None,
    window_end: datetime | None = None,
    period: timedelta = WEEK,
    minimum_rows: int = 100,
) -> PerformanceReport:
    """Measure predictions on the labels known at `now`: `match` and `measured` in one call."""
    matched = match(
        predictions,
        labels,
        now=now,
        task=task,
        key=key,
        label=label,
        label_timestamp=label_timestamp,
        window_start=window_start,
        window_end=window_end,
    )
    return measured(matched, task=task, threshold=threshold, period=period, minimum_rows=minimum_rows)


def match(
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    now: datetime,
    task: Task,
    key: str | Sequence[str],
    label: str = "label",
    label_timestamp: str = "label_timestamp",
    window_start: datetime | None = None,
    window_end: datetime | None = None,
) -> Matched:
    """Find what is known of each prediction's label at `now` (a time zone is required, as in all times here).

    predictions: `key`, event_timestamp, the task's columns of answers, in_sample (null counts as in sample), and perhaps
    model_version; of rows with the same key the latest by event_timestamp counts. labels: `key`, `label`, `label_timestamp`; of
    several with the same key the newest known by `now` counts. `key` may be several columns, event_timestamp among them where
    one thing is asked about again and again. A null label with a null timestamp, or with one that is past, never comes; a label
    without a timestamp is not known to be known: it stays pending. Labels without such a column are known from their
    event_timestamp on.

    The window is [window_start, window_end), by default from the first prediction until now. Raises a MonitoringError for
    missing columns, a naive time, or a window that ends before it starts.
    """
    answers, names = stored_columns(task), [key] if isinstance(key, str) else list(key)
    known = label_timestamp if label_timestamp in labels.columns or MOMENT not in labels.columns else MOMENT
    _need(predictions, [*names, MOMENT, *answers, "in_sample"], "predictions")
    _need(labels, [*names, label, known], "labels")
    start, end = _window(predictions, now, window_start, window_end)
    named = labels.select(_key(names), label=pl.col(label), known=pl.col(known))
    inside = _inside(predictions, names, start, end, answers)
    rows = _states(inside, named, now)
    return Matched(rows, now, start, end, inside.height - rows.height)


def measured(
    matched: Matched, *, task: Task, threshold: float, period: timedelta = WEEK, minimum_rows: int = 100
) -> PerformanceReport:
    """Measure matched predictions over the whole window, and in periods from its start.

    Fewer than `minimum_rows` matured rows give no metrics.
    """
    measure = partial(measure_rows, task=task, threshold=threshold, minimum_rows=minimum_rows)
    parts = [
        measure(between(matched.rows, *bounds), *bounds) for bounds in _periods(matched.start, matched.end, period)
    ]
    return PerformanceReport(
        now=matched.now,
        threshold=threshold,
        task=task.kind,
        overall=measure(matched.rows, matched.start, matched.end),
        periods=tuple(parts),
        duplicates=matched.duplicates,
    )


def _need(frame: pl.DataFrame, columns: Sequence[str], name: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise MonitoringError(f"{name} lacks the columns {missing}; it has: {', '.join(frame.columns)}")


def _window(
    predictions: pl.DataFrame, now: datetime, start: datetime | None, end: datetime | None
) -> tuple[datetime, datetime]:
    for name, moment in (("now", now), ("window_start", start), ("window_end", end)):
        if moment is not None and moment.tzinfo is None:
            raise MonitoringError(f"{name} is {moment.isoformat()}, without a time zone: give it in UTC")
    end = end or now
    first = cast("datetime | None", predictions["event_timestamp"].min())
    start = start or min(first or end, end)
    if end < start:
        raise MonitoringError(f"the window ends at {end.isoformat()}, before it starts at {start.isoformat()}")
    return start, end


def _inside(
    predictions: pl.DataFrame, key: Sequence[str], start: datetime, end: datetime, answers: Sequence[str]
) -> pl.DataFrame:
    version = (
        pl.col("model_version").cast(pl.String) if "model_version" in predictions.columns else pl.lit(None, pl.String)
    )
    columns = [_key(key), pl.int_range(pl.len()).alias("row"), pl.col(MOMENT, *answers), version.alias("model_version")]
    seen = pl.col("in_sample").fill_null(True)
    return predictions.select(*columns, seen).filter(pl.col(MOMENT).is_between(start, end, closed="left"))


def _key(names: Sequence[str]) -> pl.Expr:
    """One column that tells observations apart; of several columns, their texts together."""
    if len(names) == 1:
        return pl.col(names[0]).alias("key")
    return pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in names], separator="\x1f").alias("key")


def _states(inside: pl.DataFrame, labels: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Each key once, with its label (null unless matured) and its state."""
    rows = inside.sort("event_timestamp", maintain_order=True).unique("key", keep="last", maintain_order=True)
    joined = rows.join(_known(labels, now), on="key", how="left", validate="1:1")
    state = (
        pl.when("in_sample")
        .then(pl.lit("in sample"))
        .when(pl.col("answers").is_null())
        .then(pl.lit("pending"))
        .when(pl.col("answers") > 1)
        .then(pl.lit("contradictory"))
        .when(pl.col("label").is_null())
        .then(pl.lit("never"))
        .otherwise(pl.lit("matured"))
    )
    tagged = joined.with_columns(state=state)
    return tagged.with_columns(label=pl.when(pl.col("state") == "matured").then("label"))


def _known(labels: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Per key the newest label known by `now`, and how many different answers (null is one) were given at that time."""
    never = pl.col("label").is_null() & pl.col("known").is_null()
    by_now = labels.filter((pl.col("known") <= now) | never)
    dated = pl.col("known").fill_null(datetime(1, 1, 1, tzinfo=now.tzinfo))  # a dated label beats an undated null
    newest = by_now.filter(dated == dated.max().over("key"))
    return newest.group_by("key").agg(pl.col("label", "known").first(), answers=pl.col("label").n_unique())


def _periods(start: datetime, end: datetime, period: timedelta) -> list[tuple[datetime, datetime]]:
    if period <= timedelta(0):
        raise MonitoringError(f"period is {period}: it must be longer than nothing, such as 7 days")
    bounds = []
    while start < end:
        bounds.append((start, min(start + period, end)))
        start += period
    return bounds


def between(rows: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """Return the rows with start <= event_timestamp < end."""
    return rows.filter(pl.col("event_timestamp").is_between(start, end, closed="left"))


def measure_rows(
    rows: pl.DataFrame, start: datetime, end: datetime, *, task: Task, threshold: float, minimum_rows: int = 100
) -> PeriodPerformance:
    """Count and measure matched rows, all of which lie in [start, end).

    Labels or answers that the task cannot read are no crash and no metric: the status is "unreadable", the note says why.
    """
    counts = {state: int((rows["state"] == state).sum()) for state in STATES}
    status, note = _status(counts, rows.height, minimum_rows)
    metrics: dict[str, float | None] = dict.fromkeys(task.metric_names)
    outcomes = ""
    try:
        if counts["matured"]:
            y, score = labelled(rows, task=task)
            outcomes = task.describe(y)
        if status == "realised":
            found = evaluate(y, score, threshold=threshold, task=task)
            metrics, note = known_values(found), "; ".join(f"{name}: {why}" for name, why in reasons(found).items())
    except (EvaluationError, TaskError) as error:
        status, note = "unreadable", str(error)
    return PeriodPerformance(
        start=start,
        end=end,
        status=status,
        note=note,
        expected=rows.height - counts["in sample"],
        matured=counts["matured"],
        pending=counts["pending"],
        never=counts["never"],
        contradictory=counts["contradictory"],
        in_sample=counts["in sample"],
        outcomes=outcomes,
        model_versions=tuple(rows["model_version"].drop_nulls().unique(maintain_order=True)),
        metrics=metrics,
    )


def _status(counts: Mapping[str, int], rows: int, minimum_rows: int) -> tuple[Status, str]:
    matured, seen = counts["matured"], counts["in sample"]
    if rows == 0:
        return "empty window", "no predictions"
    if rows == seen:
        return "only in-sample rows", f"the model was trained on all {seen:,} rows"
    if matured == 0:
        return "nothing matured", f"none of {rows - seen:,} predictions has a label yet"
    if matured < minimum_rows:
        return "too few labels", f"{matured:,} labels, fewer than {minimum_rows:,}"
    return "realised", ""


def _flat(period: PeriodPerformance) -> dict[str, Any]:
    values = asdict(period)
    metrics = values.pop("metrics")
    return values | {"model_versions": ", ".join(period.model_versions)} | metrics
