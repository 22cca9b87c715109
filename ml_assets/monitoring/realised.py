"""Performance over the lake, week by week: realised where the labels are in, estimated where they are waited for.

Stored beside `<problem>/performance_report` (one row per week of the model in office): `label_ledger` (one row per day),
`performance_summary` (all live predictions together), `performance_slices`, and `performance_earlier` (the weeks of models that
were in office before).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import polars as pl

from ml_assets import keys
from ml_assets.evaluation.metrics import answered, stored_columns
from ml_assets.evaluation.plots import timeline_plot
from ml_assets.evaluation.report import number, table
from ml_assets.evaluation.slices import slice_metrics, slice_schema
from ml_assets.lake import Lake
from ml_assets.lake.lake import MissingPartitionError
from ml_assets.monitoring.estimation import Estimate, Estimator, fit_estimator
from ml_assets.monitoring.labels import MATURE_SHARE, Lateness, lateness, ledger
from ml_assets.monitoring.performance import (
    MOMENT,
    WEEK,
    Matched,
    PerformanceReport,
    PeriodPerformance,
    between,
    match,
    measure_rows,
    measured,
)
from ml_assets.monitoring.tables import days_of, of_champion
from ml_assets.packaging.champion import Champion
from ml_assets.tasks import Metric, Task

RECENT = 4
"""Realised weeks that are judged together: one week's metric is mostly noise, and a year's hides a fall."""
LEAST = 100
"""Labels, or rows that wait for one, from which a week is measured or estimated."""


@dataclass(frozen=True)
class Week:
    """A week of the model in office: what is realised by now, and what was to be expected of its rows (`estimates`, by metric).

    status: "realised" when its days are mature and have enough labels; "mixed" when metrics are there but labels still missing;
    "estimated" when there is only the estimate; else why there is nothing (see `PeriodPerformance`).
    """

    period: PeriodPerformance
    mature: bool
    waiting: int
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Return what the week's numbers are."""
        if self.period.status == "realised":
            return "realised" if self.mature else "mixed"
        return "estimated" if self.estimates and self.period.status != "unreadable" else self.period.status

    def error(self, metric: str) -> float | None:
        """Return estimated less realised, once the week is realised."""
        value, estimate = self.period.metrics.get(metric), self.estimates.get(metric)
        return None if value is None or estimate is None or self.status != "realised" else estimate.value - value

    def covered(self, metric: str) -> bool | None:
        """Tell whether the realised value lay in the estimate's interval, once the week is realised."""
        if self.error(metric) is None:
            return None
        estimate, value = self.estimates[metric], self.period.metrics[metric]
        return value is not None and estimate.low <= value <= estimate.high


@dataclass(frozen=True)
class Performance:
    """Performance of live predictions, and the champion's metrics on its test split to compare with.

    `metric` is the declared one. `recent` are the latest realised weeks together, None while there are none. `slices` are of the
    same rows, see `slice_metrics`. `earlier` are the weeks of models that were in office before, out of their samples.
    `unestimated` says why nothing is estimated.
    """

    report: PerformanceReport
    expected: dict[str, float]
    metric: str
    weeks: tuple[Week, ...]
    recent: PeriodPerformance | None
    ledger: pl.DataFrame
    lateness: Lateness
    slices: pl.DataFrame
    earlier: tuple[PeriodPerformance, ...]
    unestimated: str = ""

    @property
    def waiting(self) -> list[Week]:
        """Return the weeks that still wait for labels, oldest first."""
        return [week for week in self.weeks if week.waiting and not week.mature]

    @property
    def coverage(self) -> tuple[int, int]:
        """Return how many realised weeks lay in the interval of their estimate, and how many had one."""
        found = [covered for week in self.weeks if (covered := week.covered(self.metric)) is not None]
        return sum(found), len(found)

    def to_frame(self) -> pl.DataFrame:
        """Return one row per week: period, counts and metrics as in `PerformanceReport.to_frame`, and what was estimated.

        More columns: mature; waiting (rows); metric (the declared one's name); estimated_<metric>; of the declared metric
        estimated_low and estimated_high, estimate_error (estimated less realised) and estimate_covered, null until realised.
        """
        return self.report.to_frame().with_columns(
            pl.Series("status", [week.status for week in self.weeks], dtype=pl.String),
            pl.Series("mature", [week.mature for week in self.weeks], dtype=pl.Boolean),
            pl.Series("waiting", [week.waiting for week in self.weeks], dtype=pl.Int64),
            pl.lit(self.metric).alias("metric"),
            *(self._estimated(name) for name in self.report.overall.metrics),
            *(
                pl.Series(f"estimated_{side}", [self._side(week, side) for week in self.weeks], dtype=pl.Float64)
                for side in ("low", "high")
            ),
            pl.Series("estimate_error", [week.error(self.metric) for week in self.weeks], dtype=pl.Float64),
            pl.Series("estimate_covered", [week.covered(self.metric) for week in self.weeks], dtype=pl.Boolean),
        )

    def markdown(self) -> str:
        """Return the report that a person reads: what is known, the weeks, the slices, and who was in office before."""
        parts = [self.headline(), _weeks_table(self), self.report.counted()]
        if self.slices.height:
            parts.append(f"Slices of the latest {RECENT} realised weeks\n\n{_slices_table(self)}")
        if self.earlier:
            parts.append(f"Models that were in office before\n\n{_earlier_table(self)}")
        return "\n\n".join(parts) + "\n"

    def headline(self) -> str:
        """Return the declared metric as realised, as estimated, and how good estimates were, in a few sentences."""
        told = [_recent_sentence(self), *_waiting_sentence(self), *_coverage_sentence(self)]
        return f"{' '.join(told)} {self.lateness.reason[:1].upper()}{self.lateness.reason[1:]}."

    def _estimated(self, metric: str) -> pl.Series:
        values = [week.estimates[metric].value if metric in week.estimates else None for week in self.weeks]
        return pl.Series(f"estimated_{metric}", values, dtype=pl.Float64)

    def _side(self, week: Week, side: str) -> float | None:
        return getattr(week.estimates[self.metric], side) if self.metric in week.estimates else None


def report_performance(
    lake: Lake,
    problem: str,
    champion: Champion,
    *,
    key: Sequence[str],
    now: datetime,
    metric: str | None = None,
    slices: Sequence[str] = (),
    label_delay: timedelta | None = None,
    mature_share: float = MATURE_SHARE,
) -> Performance:
    """Measure the champion's live predictions on the outcomes known by `now`, estimate those that are waited for; store all.

    Live is what lies after the test split. `metric` is the declared one (default: the task's), `label_delay` the declared one.
    """
    predicted, observed = (days_of(lake, keys.problem(problem, part)) for part in ("predictions", "observations"))
    days = [day for day in predicted.days if day >= keys.day(champion.live_from)]
    predictions, labels = of_champion(predicted.read(days), champion), observed.read(days)
    start, task = champion.live_from, champion.bundle.task
    matched = match(
        predictions,
        labels,
        now=now,
        task=task,
        key=[*key, MOMENT],  # one observation: of the same thing it may be asked again and again
        window_start=start,
        window_end=max(_end(days, predictions), start + timedelta(days=1)),
    )
    threshold = champion.bundle.threshold
    report = measured(matched, task=task, threshold=threshold, minimum_rows=LEAST)
    others = _others(lake, problem, champion, key=key, now=now)
    asked = matched.rows if others is None else pl.concat([others, matched.rows], how="vertical_relaxed")
    counted = ledger(asked, now=now, declared=label_delay, mature_share=mature_share)
    estimator = _estimator(lake, problem, champion, predictions) if matched.rows.height else "there are no predictions"
    weeks = tuple(_weeks(report, matched, counted, estimator, predictions, task))
    rows, recent = _recent(matched, weeks, task, threshold)
    found = Performance(
        report=report,
        expected=champion.test_metrics,
        metric=metric or task.default_metric,
        weeks=weeks,
        recent=recent,
        ledger=counted,
        lateness=lateness(asked, counted, declared=label_delay, mature_share=mature_share),
        slices=_slices(rows, predictions, slices, task, threshold),
        earlier=() if others is None else _earlier(others, champion),
        unestimated=estimator if isinstance(estimator, str) else "",
    )
    _store(lake, problem, found, task, now)
    return found


def latest_performance(lake: Lake, problem: str) -> dict[str, Any] | None:
    """Return the stored measure over all live predictions (counts, status, metrics that apply), or None."""
    if lake.manifest(keys.problem(problem, "performance_summary")) is None:
        return None
    row = lake.read(keys.problem(problem, "performance_summary")).row(0, named=True)
    return {column: value for column, value in row.items() if value is not None}


def within_tolerance(found: Performance, metric: Metric, tolerance: float) -> tuple[bool, str]:
    """Tell whether the metric of the latest realised weeks is not worse than the test's by more than `tolerance`, and why."""
    value = found.recent.metrics.get(metric.name) if found.recent else None
    expected = found.expected.get(metric.name)
    if value is None or expected is None:
        return False, f"undecided: {metric.name} is not known yet: {_why_unknown(found, metric.name)}"
    text = f"{metric.name} is {value:.4f}, on the test split it was {expected:.4f}; tolerated loss {tolerance}"
    return -metric.gain(value, expected) <= tolerance, text


def estimate_within_tolerance(found: Performance, metric: Metric, tolerance: float) -> tuple[bool, str]:
    """Tell whether the estimate of the latest week that waits for labels is not worse than tolerated, and why.

    Without a week that waits nothing is to be judged, which the reason says; without an estimate of one, it does not pass.
    """
    if not found.weeks or not any(week.period.expected for week in found.weeks):
        return False, "undecided: there are no live predictions to estimate"
    if not found.waiting:
        return True, f"not applicable: no week waits for labels; {_coverage_text(found)}"
    week, expected = found.waiting[-1], found.expected.get(metric.name)
    estimate = week.estimates.get(metric.name)
    if estimate is None or expected is None:
        why = _why_unestimated(found, week)
        return False, f"undecided: {metric.name} of {week.period.start:%Y-%m-%d} is not estimated: {why}"
    text = (
        f"{metric.name} of the week of {week.period.start:%Y-%m-%d} is estimated at {estimate.value:.4f} ({estimate.low:.4f} to "
        f"{estimate.high:.4f}), on the test split it was {expected:.4f}; tolerated loss {tolerance}; {_coverage_text(found)}"
    )
    return -metric.gain(estimate.value, expected) <= tolerance, text


def as_declared(found: Performance) -> tuple[bool, str]:
    """Tell whether labels come as late as declared, and why; where nothing is declared, nothing is to be judged."""
    said = found.lateness
    if said.passed is None and found.ledger.height and said.reason.startswith("availability"):
        return True, f"not applicable: {said.reason}"
    return bool(said.passed), f"undecided: {said.reason}" if said.passed is None else said.reason


def performance_plot(found: Performance, metric: Metric, tolerance: float) -> bytes:
    """Return the metric by week as a PNG: realised, the estimate's interval, the test's value, the limit, and who was in office."""
    expected, name = found.expected.get(metric.name), metric.name
    sign = -1 if metric.greater_is_better else 1
    estimates = [week.estimates.get(name) for week in found.weeks]
    periods = sorted([*found.earlier, *(week.period for week in found.weeks)], key=lambda period: period.start)
    return timeline_plot(
        [week.period.start for week in found.weeks],
        [week.period.metrics.get(name) for week in found.weeks],
        metric=name,
        expected=expected,
        limit=None if expected is None else expected + sign * tolerance,
        band=[None if one is None else (one.value, one.low, one.high) for one in estimates],
        before=[(period.start, period.metrics.get(name)) for period in found.earlier],
        marks=_changes(periods),
    )


# -- the parts of the report -------------------------------------------------------------------------------------------


def _estimator(lake: Lake, problem: str, champion: Champion, predictions: pl.DataFrame) -> Estimator | str:
    """Fit an estimator on the champion's test split; a text says why there is none."""
    try:
        frame = lake.scan_version(keys.problem(problem, "training_set"), champion.data_hash)
    except MissingPartitionError:
        return "the champion's training set is not in the lake any more"
    test = frame.filter((pl.col("split") == "test") & pl.col("label").is_not_null()).collect()
    if MOMENT in test.columns:
        test = test.sort(MOMENT, maintain_order=True)
    bundle = champion.bundle
    found = fit_estimator(
        test,
        bundle.truth(test),
        bundle.predict(test),
        task=bundle.task,
        threshold=bundle.threshold,
        features=bundle.features,
    )
    lost = [] if isinstance(found, str) else [name for name in found.columns if name not in predictions.columns]
    return f"the predictions lack the features {lost}" if lost else found


def _weeks(
    report: PerformanceReport,
    matched: Matched,
    counted: pl.DataFrame,
    estimator: Estimator | str,
    predictions: pl.DataFrame,
    task: Task,
) -> Iterator[Week]:
    """Return the weeks in order; each estimate knows how wrong those were whose labels had come before it."""
    immature = set(counted.filter(~pl.col("mature"))["day"])
    days = matched.rows.select(pl.col(MOMENT).dt.date().dt.to_string()).to_series()
    seen: dict[str, list[float]] = {}
    for period in report.periods:
        inside = matched.rows.with_columns(day=days).filter(
            pl.col(MOMENT).is_between(period.start, period.end, closed="left")
        )
        inside = inside.filter(pl.col("state") != "in sample")
        mature = inside.height > 0 and not (set(inside["day"]) & immature)
        week = Week(period, mature, int((inside["state"] == "pending").sum()))
        if isinstance(estimator, Estimator):
            week = replace(week, estimates=_estimates(estimator, inside, predictions, task, seen))
        for name, estimate in week.estimates.items():
            value = period.metrics.get(name)
            if week.status == "realised" and value is not None:
                seen.setdefault(name, []).append(estimate.excess(value))
        yield week


def _estimates(
    estimator: Estimator,
    rows: pl.DataFrame,
    predictions: pl.DataFrame,
    task: Task,
    seen: Mapping[str, Sequence[float]],
) -> dict[str, Estimate]:
    """Estimate the metrics of the rows that have a label or may get one: what will never have one is not measured either."""
    open_rows = rows.filter(pl.col("state").is_in(["matured", "pending"])).drop_nulls(stored_columns(task))
    score = task.stored(open_rows)
    finite = np.isfinite(score if score.ndim == 1 else score.sum(axis=1))
    if finite.sum() < LEAST:
        return {}
    return estimator.estimate(predictions[open_rows["row"].filter(pl.Series(finite))], score[finite], seen=seen)


def _recent(
    matched: Matched, weeks: Sequence[Week], task: Task, threshold: float
) -> tuple[pl.DataFrame, PeriodPerformance | None]:
    """Return the rows of the latest realised weeks, and what they measure together."""
    latest = [week.period for week in weeks if week.status == "realised"][-RECENT:]
    if not latest:
        return matched.rows.clear(), None
    rows = pl.concat([between(matched.rows, period.start, period.end) for period in latest])
    return rows, measure_rows(rows, latest[0].start, latest[-1].end, task=task, threshold=threshold, minimum_rows=LEAST)


def _slices(
    rows: pl.DataFrame, predictions: pl.DataFrame, by: Sequence[str], task: Task, threshold: float
) -> pl.DataFrame:
    """Return the metrics by slice of the realised rows; a column that the predictions lack is a row that says so."""
    known = [name for name in by if name in predictions.columns]
    found = pl.DataFrame(schema=slice_schema(task))
    if known and rows.height:
        out = rows.filter(pl.col("state") != "in sample")
        frame = predictions[out["row"]].select(known).with_columns(label=out["label"])
        found = slice_metrics(answered(frame, task.stored(out), task=task, threshold=threshold), known)
    lost = [{"slice": name, "note": "no such column in the predictions"} for name in by if name not in known]
    return pl.concat([found, pl.DataFrame(lost, schema=found.schema)]) if lost else found


def _others(lake: Lake, problem: str, champion: Champion, *, key: Sequence[str], now: datetime) -> pl.DataFrame | None:
    """Return matched rows that other versions answered, out of their samples; None when there are none."""
    scanned, task = lake.scan(keys.problem(problem, "predictions")), champion.bundle.task
    if "model_version" not in scanned.collect_schema().names():
        return None
    others = scanned.filter((pl.col("model_version") != champion.version) & ~pl.col("in_sample"))
    wanted = [*dict.fromkeys([*key, MOMENT]), *stored_columns(task), "model_version", "in_sample"]
    rows = others.select(wanted).collect()
    if not rows.height:
        return None
    observed = days_of(lake, keys.problem(problem, "observations"))
    days = set(rows.select(pl.col(MOMENT).dt.date().dt.to_string()).to_series())
    labels = observed.read([day for day in observed.days if day in days])
    return match(rows, labels, now=now, task=task, key=[*key, MOMENT], window_end=_end(sorted(days), rows)).rows


def _earlier(others: pl.DataFrame, champion: Champion) -> tuple[PeriodPerformance, ...]:
    """Measure each other version by weeks, cut as the champion's are; decisions are made at the champion's threshold."""
    steps = ((pl.col(MOMENT) - pl.lit(champion.live_from)).dt.total_seconds() / WEEK.total_seconds()).floor()
    parts = others.with_columns(step=steps.cast(pl.Int64)).partition_by("model_version", "step", as_dict=True)
    found = [_earlier_week(part, champion, int(step)) for (_, step), part in parts.items()]
    return tuple(sorted(found, key=lambda period: (period.start, period.model_versions)))


def _earlier_week(rows: pl.DataFrame, champion: Champion, step: int) -> PeriodPerformance:
    start = champion.live_from + step * WEEK
    bundle = champion.bundle
    return measure_rows(rows, start, start + WEEK, task=bundle.task, threshold=bundle.threshold, minimum_rows=LEAST)


def _store(lake: Lake, problem: str, found: Performance, task: Task, now: datetime) -> None:
    overall = replace(found.report, periods=(found.report.overall,)).to_frame()
    earlier = replace(found.report, periods=found.earlier).to_frame()
    for name, frame in (
        ("performance_report", found.to_frame()),
        ("performance_summary", overall),
        ("performance_slices", found.slices),
        ("performance_earlier", earlier),
        ("label_ledger", found.ledger),
    ):
        lake.write(keys.problem(problem, name), frame, written_at=now)


def _end(days: Sequence[str], predictions: pl.DataFrame) -> datetime:
    """Return the midnight (UTC) after the last day and the last prediction: a local day ends in the next one of UTC."""
    last = cast("datetime | None", predictions[MOMENT].max())
    found = [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in days[-1:]]
    found += [last.replace(hour=0, minute=0, second=0, microsecond=0)] if last else []
    return max(found) + timedelta(days=1) if found else datetime.min.replace(tzinfo=UTC)


# -- for people --------------------------------------------------------------------------------------------------------


def _changes(periods: Sequence[PeriodPerformance]) -> dict[datetime, str]:
    """Return when a version first answered, by its moment; nothing where it was always the same."""
    first: dict[str, datetime] = {}
    for period in periods:
        for version in period.model_versions:
            first.setdefault(version, period.start)
    return {} if len(first) < 2 else {start: f"version {version}" for version, start in first.items()}


def _recent_sentence(found: Performance) -> str:
    value = found.recent.metrics.get(found.metric) if found.recent else None
    expected = found.expected.get(found.metric)
    if found.recent is None or value is None:
        return f"**{found.metric} is not known yet**: {_why_unknown(found, found.metric)}."
    against = "" if expected is None else f"; on the test split it was {number(expected)}"
    until = f"{found.recent.start:%Y-%m-%d} to {found.recent.end - timedelta(days=1):%Y-%m-%d}"
    return f"**{found.metric} {number(value)}** realised on {found.recent.matured:,} labels, {until}{against}."


def _waiting_sentence(found: Performance) -> list[str]:
    if not found.waiting:
        return []
    week, pending = found.waiting[-1], sum(week.waiting for week in found.waiting)
    estimate = week.estimates.get(found.metric)
    if estimate is None:
        return [f"{pending:,} labels are waited for, and nothing is estimated: {_why_unestimated(found, week)}."]
    return [
        f"{pending:,} labels are waited for; the week of {week.period.start:%Y-%m-%d} is estimated at {number(estimate.value)} "
        f"({number(estimate.low)} to {number(estimate.high)})."
    ]


def _coverage_sentence(found: Performance) -> list[str]:
    return [f"{_coverage_text(found).capitalize()}."] if found.coverage[1] else []


def _coverage_text(found: Performance) -> str:
    inside, weeks = found.coverage
    if not weeks:
        return "no estimate has been held against labels yet"
    errors = [error for week in found.weeks if (error := week.error(found.metric)) is not None]
    return f"of {weeks} estimates {inside} held the realised value, off by {np.mean(np.abs(errors)):.3g} on average"


def _why_unknown(found: Performance, metric: str) -> str:
    """Say why there is no realised value: the metric's reason, or what the weeks wait for."""
    if metric not in found.expected:
        return "the test split has no value to compare with"
    whole = found.report.overall
    if whole.status == "realised":
        return whole.note or "no week has all its labels"
    return f"unreadable, {whole.note}" if whole.status == "unreadable" else whole.status


def _why_unestimated(found: Performance, week: Week) -> str:
    if found.unestimated:
        return found.unestimated
    if not week.estimates:
        return f"fewer than {LEAST} rows with an answer wait for labels"
    return f"{found.metric} does not apply to the test split, or to these answers"


def _weeks_table(found: Performance) -> str:
    heads = [
        "from",
        "status",
        "rows",
        "labels",
        "waiting",
        "never",
        found.metric,
        "estimated",
        "off by",
        "version",
        "note",
    ]
    rows = [
        [
            f"{week.period.start:%Y-%m-%d}",
            week.status,
            *(f"{count:,}" for count in (week.period.expected, week.period.matured, week.waiting, week.period.never)),
            number(week.period.metrics.get(found.metric)),
            _spread(week.estimates.get(found.metric)),
            number(week.error(found.metric)) + (" (outside)" if week.covered(found.metric) is False else ""),
            ", ".join(week.period.model_versions),
            _note(week),
        ]
        for week in found.weeks
    ]
    return table(heads, rows)


def _note(week: Week) -> str:
    told = [f"{week.period.contradictory:,} contradictory labels"] if week.period.contradictory else []
    return "; ".join([*told, *([week.period.note] if week.period.status != "realised" and week.period.note else [])])


def _spread(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"


def _slices_table(found: Performance) -> str:
    rows = [
        [
            row["slice"],
            row["value"] or "-",
            f"{row['rows'] or 0:,}",
            number(row[found.metric]),
            row["note"] if row["note"] and row[found.metric] is None else "",
        ]
        for row in found.slices.to_dicts()
    ]
    return table(["column", "value", "labels", found.metric, "note"], rows)


def _earlier_table(found: Performance) -> str:
    rows = [
        [f"{one.start:%Y-%m-%d}", ", ".join(one.model_versions), f"{one.matured:,}", number(one.metrics[found.metric])]
        for one in found.earlier
    ]
    return table(["from", "version", "labels", found.metric], rows)
