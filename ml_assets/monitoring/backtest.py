"""A cheap backtest: would a model retrained on recent data have done better than the champion on the latest labelled rows?

The champion's kind of model is trained again with the champion's hyperparameters, without a search, on rows whose outcome
was known before the window began; the window's rows are new to both. So the difference is what newer rows teach.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from ml_assets.development.blend import NAME as ENSEMBLE
from ml_assets.development.candidates.base import sampled
from ml_assets.development.lifecycle import Plan, develop_again
from ml_assets.evaluation.comparison import compare
from ml_assets.evaluation.fairness import Incumbent, unseen
from ml_assets.evaluation.metrics import Answered, answered
from ml_assets.features.training import SPLIT, training_rows
from ml_assets.preparation.observations import EVENT_TIMESTAMP, LABEL, LABEL_TIMESTAMP
from ml_assets.preparation.spans import Span
from ml_assets.preparation.splits import SplitPlan, SplitWindows, share_windows
from ml_assets.tasks import Metric

MOST_ROWS = 60_000
"""Rows to train on, and at most to compare on: drawn at random from all that there are."""
MATURE_SHARE = 0.99
"""Share of the outcomes that are known by so much time after the question that younger rows count as pending."""
DAY, WEEK = timedelta(days=1), timedelta(days=7)


@dataclass(frozen=True)
class Stretch:
    """Rows asked from `start` on and before `end`."""

    start: datetime
    end: datetime

    def holds(self) -> pl.Expr:
        """Tell of each row whether it is inside."""
        return (pl.col(EVENT_TIMESTAMP) >= self.start) & (pl.col(EVENT_TIMESTAMP) < self.end)

    def __str__(self) -> str:
        """Return the days, both included."""
        return f"{self.start:%Y-%m-%d} to {self.end - timedelta(microseconds=1):%Y-%m-%d}"


@dataclass(frozen=True)
class Week:
    """Both models on the window's rows of one week; None where the metric does not apply."""

    start: datetime
    rows: int
    fresh: float | None
    champion: float | None


@dataclass(frozen=True)
class Backtest:
    """The retrained (`fresh`) model and the champion on the same `rows` of the window.

    `gain` is how much better the retrained one is (`Metric.gain`), with its paired bootstrap interval `low` to `high`; rows are
    drawn one by one, so read it as a lower bound of the uncertainty. `trained` rows of the `known` ones were learned from, by
    the candidate `kind`. `seconds` is what it took.
    """

    metric: str
    kind: str
    window: Stretch
    rows: int
    trained: int
    known: int
    fresh: float
    champion: float
    gain: float
    low: float
    high: float
    seconds: float
    weeks: tuple[Week, ...] = ()

    def sentence(self) -> str:
        """Return what was found in words."""
        days = round((self.window.end - self.window.start) / DAY)
        told = "better" if self.gain > 0 else "worse" if self.gain < 0 else "neither better nor worse, that is by"
        beyond = "" if self.low > 0 or self.high < 0 else ", which is within chance"
        return (
            f"a retrained model would be {abs(self.gain):.3g} {told} by {self.metric} on the last {days} days "
            f"({self.low:+.3g} to {self.high:+.3g}{beyond})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as values that JSON has."""
        told = asdict(self)
        told["window"] = {"start": self.window.start.isoformat(), "end": self.window.end.isoformat()}
        told["weeks"] = [asdict(week) | {"start": week.start.isoformat()} for week in self.weeks]
        return told


def window_of(
    observations: pl.LazyFrame, *, now: datetime, days: int, since: datetime, supervised: bool = True
) -> Stretch | str:
    """Return the latest `days` days whose outcomes are known, from `since` on; or why there are none.

    A day is mature when so much time has passed as 99 of 100 outcomes need. Observations have `event_timestamp`, `label`
    unless they are not supervised, and `label_timestamp` where outcomes come later.
    """
    rows = observations.filter(pl.col(LABEL).is_not_null()) if supervised else observations
    timed = supervised and LABEL_TIMESTAMP in observations.collect_schema()
    delay = pl.col(LABEL_TIMESTAMP) - pl.col(EVENT_TIMESTAMP) if timed else pl.lit(timedelta(0))
    known = rows.filter(pl.col(LABEL_TIMESTAMP) <= now) if timed else rows.filter(pl.col(EVENT_TIMESTAMP) <= now)
    found = known.select(last=pl.col(EVENT_TIMESTAMP).max(), delay=delay.quantile(MATURE_SHARE)).collect()
    last, late = found.row(0)
    if last is None:
        return "no outcome is known yet" if supervised else "there are no observations yet"
    end = min(_midnight(now - (late or timedelta(0))), _midnight(last) + DAY)
    start = max(end - days * DAY, since)
    if start >= end:
        return f"outcomes are known of rows before {end:%Y-%m-%d}, and the champion has learned all before {since:%Y-%m-%d}"
    return Stretch(start, end)


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True)
class _Before(SplitPlan):
    """The declared split, counted back from the window, which takes the place of the test split; in order of time always."""

    window: Stretch = Stretch(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))

    def windows(self, moments: pl.Series, *, as_known_at: datetime) -> SplitWindows:
        start, end = self.window.start, self.window.end
        if isinstance(self.train, str) and isinstance(self.validation, str):
            validation = Span.parse(self.validation).before(start)
            return SplitWindows(Span.parse(self.train).before(validation), validation, start, end)
        earlier = moments.filter(moments < start)
        if earlier.is_empty():
            return SplitWindows(start, start, start, end)
        share = float(self.train) / (float(self.train) + float(self.validation))
        cut = share_windows(earlier, train=share, validation=1 - share)
        return SplitWindows(cut.train_start, cut.validation_start, start, end)


def backtest_rows(
    observations: pl.LazyFrame,
    split: SplitPlan,
    window: Stretch,
    *,
    now: datetime,
    supervised: bool = True,
    most: int = MOST_ROWS,
) -> tuple[pl.DataFrame, int]:
    """Return the rows to train on and to compare on, without features, and how many could be trained on.

    The column `split` says which: train and validation are before the window and were known when it began, test are the
    window's. Of either at most `most` are kept, drawn with the split's seed. `TrainingSetError` when there are none.
    """
    told = {name: getattr(split, name) for name in ("train", "validation", "test", "gap", "group", "seed")}
    plan = _Before(by_time=True, window=window, **told)
    rows = training_rows(observations, plan, as_known_at=now, supervised=supervised).labelled
    inside = pl.col(SPLIT) == "test"
    parts = rows.filter(~inside), rows.filter(inside)
    kept = [part[sampled(part.height, most, split.seed)] for part in parts]
    return pl.concat(kept), parts[0].height


def backtest(
    plan: Plan,
    rows: pl.DataFrame,
    settled: Mapping[str, Any],
    champion: Incumbent,
    *,
    window: Stretch,
    known: int,
    seen: pl.DataFrame | None = None,
    minimum_rows: int = 200,
) -> Backtest | str:
    """Train the champion's kind again, and compare both on the window; or say why that cannot be done.

    `rows` are those of `backtest_rows` with their features, `known` the count beside them; `settled` is what the champion's
    search settled on (see `development.origin.settled`); `seen` names the rows that the champion has learned, of a random split.
    """
    started = time.perf_counter()
    train, test = rows.filter(pl.col(SPLIT) != "test"), _new(rows, plan, seen)
    few = [f"{part.height:,} {what}" for what, part in (("to train on", train), ("in the window", test))]
    if min(train.height, test.height) < minimum_rows:
        return f"too few labelled rows ({', '.join(few)} of {window}; at least {minimum_rows:,} of each)"
    with TemporaryDirectory() as folder:
        try:
            made = develop_again(plan, train, lean(settled), Path(folder))
            mine = answers_of(made.result.load(), test, plan, made.threshold)
            theirs = answers_of(champion.bundle, test, plan, champion.bundle.threshold)
        except ValueError as error:  # a kind that cannot learn these rows, or a champion that cannot answer them
            return f"the backtest failed: {error}"
    found = compare(mine, theirs, plan.metric, seed=plan.seed)[0]
    if found.gain is None or found.interval is None or found.challenger is None or found.champion is None:
        return f"{plan.metric.name} does not apply to the {test.height:,} rows of {window}: {found.note}"
    return Backtest(
        metric=plan.metric.name,
        kind=str(settled["winner"]),
        window=window,
        rows=found.rows,
        trained=train.height,
        known=known,
        fresh=found.challenger,
        champion=found.champion,
        gain=found.gain,
        low=found.interval[0],
        high=found.interval[1],
        seconds=time.perf_counter() - started,
        weeks=_weeks(mine, theirs, plan.metric, window),
    )


def _new(rows: pl.DataFrame, plan: Plan, seen: pl.DataFrame | None) -> pl.DataFrame:
    """Return the window's rows that are new to the champion, and of which no group is trained on."""
    test, train = rows.filter(pl.col(SPLIT) == "test"), rows.filter(pl.col(SPLIT) != "test")
    if seen is not None:
        test = test[unseen(test, seen)]
    if plan.group is not None and plan.group in rows.columns:
        test = test[unseen(test, train.select(plan.group).unique())]
    return test


def lean(settled: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model is made again with, of an ensemble only the members that have a weight."""
    winner, variants = settled["winner"], settled["variants"]
    wanted = [winner]
    if winner == ENSEMBLE:
        wanted += [name for name, weight in variants[ENSEMBLE]["weights"].items() if weight]
    return {"winner": winner, "variants": {name: variants[name] for name in wanted}}


def answers_of(model: Any, rows: pl.DataFrame, plan: Plan, threshold: float) -> Answered:
    """Return the answers of a model or a bundle to labelled rows; of a clustering with the rows in its own matrix."""
    matrix = None if plan.task.supervised else getattr(model, "model", model).encoder.dense(rows)
    return answered(rows, model.predict(rows), task=plan.task, threshold=threshold, matrix=matrix)


def _weeks(mine: Answered, theirs: Answered, metric: Metric, window: Stretch) -> tuple[Week, ...]:
    """Return both models by weeks, which begin with the window."""
    weeks = (mine.frame[EVENT_TIMESTAMP] - window.start).dt.total_days().to_numpy() // WEEK.days
    found = []
    for number in np.unique(weeks):
        index = np.flatnonzero(weeks == number)
        values = [metric.compute(side.y[index], side.score[index], side.threshold) for side in (mine, theirs)]
        found.append(Week(window.start + int(number) * WEEK, len(index), *values))
    return tuple(found)


def weeks_plot(found: Backtest) -> bytes:
    """Return the metric of both models by week, as a PNG."""
    from ml_assets.evaluation.plots import rivals_plot

    return rivals_plot(
        [week.start for week in found.weeks],
        {"retrained": [week.fresh for week in found.weeks], "champion": [week.champion for week in found.weeks]},
        metric=found.metric,
        title=f"Backtest on {found.window}",
    )
