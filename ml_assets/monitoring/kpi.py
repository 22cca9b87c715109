"""Business value: what the decisions on live rows earned, day by day, beside the baseline's and perfect ones.

Only rows out of sample whose outcome is known by now count as money; those whose outcome is still to come are counted apart.
The baseline is what would be done without a model: the same decision for every row, and for numbers the entity's last
outcome where that is declared; which of them, the rows tell that the model was trained on. For a yes or no and for classes the
candidate `baseline` decides the same for every row, so it is that constant at its best; what `persistence` would decide for
classes is not stored, and is left out.

In a month of storms that baseline is too weak a rival: where most flights are late, a coin earns more than never acting. So the
verdict asks as well for more than the same decision that hindsight would choose on these very days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from ml_assets import keys
from ml_assets.evaluation.metrics import Answered, Interval, stored_columns
from ml_assets.evaluation.slices import parts
from ml_assets.lake import Lake, MissingPartitionError
from ml_assets.monitoring.labels import ledger
from ml_assets.monitoring.performance import MOMENT, Matched, match
from ml_assets.monitoring.sweep import PER, Sweep, sweep
from ml_assets.monitoring.tables import DaysOf, days_of
from ml_assets.packaging.champion import DATA_HASH, LIVE_FROM, Champion
from ml_assets.tasks import Task
from ml_assets.tasks.value import Value

if TYPE_CHECKING:
    from ml_assets.development.tracking import Tracking

VERSION, PREDICTION, LABELS = "model_version", "prediction", ("label", "label_timestamp")
MONEY = ("earned", "baseline", "perfect")
HINDSIGHT = "hindsight"
COUNTS = ("actions", "conversions")
MINIMUM_ROWS = 100
LAST_DAYS, LEAST_DAYS = 28, 7
RESAMPLES = 2_000
KPI_SCHEMA: dict[str, Any] = {
    "day": pl.String,
    "status": pl.String,
    "rows": pl.Int64,
    "pending": pl.Int64,
    "never": pl.Int64,
    "contradictory": pl.Int64,
    **dict.fromkeys(COUNTS, pl.Int64),
    **dict.fromkeys(MONEY, pl.Float64),
    HINDSIGHT: pl.Float64,
    **{f"{name}_so_far": pl.Float64 for name in MONEY},
    "currency": pl.String,
    "model_version": pl.String,
}
SLICE_SCHEMA: dict[str, Any] = {
    "slice": pl.String,
    "value": pl.String,
    "rows": pl.Int64,
    "without_outcome": pl.Int64,
    **dict.fromkeys(COUNTS, pl.Int64),
    **dict.fromkeys(MONEY, pl.Float64),
    "gain": pl.Float64,
    "note": pl.String,
}


@dataclass(frozen=True)
class Office:
    """A version that decided: it was tested on rows before `live_from`, and trained on version `data_hash` of the training set."""

    version: str
    live_from: datetime
    data_hash: str


@dataclass(frozen=True)
class Baseline:
    """What would be decided without a model: the last outcome in `column` where there is one, else `constant`."""

    name: str
    constant: float
    column: str = ""

    def decided(self, frame: pl.DataFrame) -> np.ndarray:
        """Return the decision for each row (n,)."""
        if not self.column:
            return np.full(frame.height, self.constant)
        return frame[self.column].cast(pl.Float64, strict=False).fill_nan(None).fill_null(self.constant).to_numpy()


@dataclass(frozen=True)
class Terms:
    """What a declaration says about money: what decisions are worth (None: nothing is said), slices, the last outcome's column.

    `label_delay` is how long outcomes take, where that is declared.
    """

    value: Value | None = None
    slices: Sequence[str] = ()
    last_value: str = ""
    label_delay: timedelta | None = None
    seed: int = 0

    @property
    def currency(self) -> str:
        """Return the unit of the money."""
        return self.value.currency if self.value else ""


@dataclass(frozen=True, eq=False)
class Kpi:
    """One row per day (`KPI_SCHEMA`) and per slice (`SLICE_SCHEMA`), the sweep of the threshold, and the baseline by version.

    `rows` are those with a known outcome; `actions` are decisions to act, for classes all answers, for numbers null;
    `conversions` are actions that were right. Money is null where no value is declared, and on days without a known outcome. A
    slice's `gain` is what it earned more than the baseline per 1,000 rows, null with too few. `absent` are slices that the
    predictions lack. `hindsight` names the same decision for all rows that earned most in the last 28 realised days; the days'
    column `hindsight` is what it earned there, null before. A day's `status` is "realised" where its labels are mature (see
    `labels.ledger`), else "pending", or "no outcome" where they are mature and none came.
    """

    days: pl.DataFrame
    slices: pl.DataFrame
    terms: Terms
    sweep: Sweep | None = None
    baselines: Mapping[str, str] = field(default_factory=dict)
    hindsight: str = ""
    absent: tuple[str, ...] = ()

    @property
    def totals(self) -> dict[str, float | None]:
        """Return the sum over all days of each count and of the money; None where there is none on any day."""
        names = ("rows", "pending", "never", "contradictory", *COUNTS, *MONEY)
        return self.days.select(_sum(name) for name in names).row(0, named=True)


@dataclass(frozen=True)
class Gain:
    """What was earned in the last realised days, by whom else, and how much more that is, with 95 % intervals from resampled days."""

    first: str
    last: str
    days: int
    rows: int
    earned: float
    baseline: float
    hindsight: float
    over_baseline: Interval | None
    over_hindsight: Interval | None


@dataclass(frozen=True, eq=False)
class _Rows:
    """Live rows: those with a known outcome, what each of them was worth, and all by day."""

    answered: Answered
    worth: pl.DataFrame
    days: pl.DataFrame


def offices(tracking: Tracking, problem: str) -> list[Office]:
    """Return every registered version that may have decided, the oldest first."""
    found = [one for one in tracking.versions(problem) if {LIVE_FROM, DATA_HASH} <= set(one.tags)]
    made = [Office(one.version, datetime.fromisoformat(one.tags[LIVE_FROM]), one.tags[DATA_HASH]) for one in found]
    return sorted(made, key=lambda one: one.live_from)


def report_kpi(
    lake: Lake,
    problem: str,
    champion: Champion,
    *,
    key: Sequence[str],
    terms: Terms,
    now: datetime,
    before: Sequence[Office] = (),
) -> Kpi:
    """Turn what was decided on live rows into money by the outcomes known at `now`, and store it by day.

    Live is what lies after a version's test split; `before` are earlier versions, whose days count too. Stored as
    `<problem>/kpi_report`: one row per day. The sweep is of the champion's rows alone: earlier versions have other scores.
    """
    task, own = champion.bundle.task, Office(champion.version, champion.live_from, champion.data_hash)
    earlier = [one for one in before if one.version != own.version]
    predictions, labels = _live(lake, problem, own, earlier, key=key, task=task, terms=terms)
    baselines = _baselines(lake, problem, [*earlier, own], predictions, task=task, terms=terms)
    matched = match(predictions, labels, now=now, task=task, key=[*key, MOMENT], window_end=_end(predictions, now))
    rows = _rows(predictions, matched, task=task, threshold=champion.bundle.threshold, terms=terms, baselines=baselines)
    days, hindsight = _with_hindsight(_by_day(rows, terms), rows, terms)
    kpi = Kpi(
        days=days,
        slices=_by_slice(rows, terms),
        terms=terms,
        sweep=_sweep(rows, champion, terms),
        baselines={version: baseline.name for version, baseline in baselines.items()},
        hindsight=hindsight,
        absent=tuple(name for name in terms.slices if name not in predictions.columns),
    )
    lake.write(keys.problem(problem, "kpi_report"), kpi.days, written_at=now)
    return kpi


def recent_gain(days: pl.DataFrame, *, seed: int = 0) -> Gain | None:
    """Return the gains in the last 28 realised days of a `kpi_report`; None where no such day has money.

    Whole days are drawn with replacement (Efron & Tibshirani 1993, ch. 8), because the rows of a day are alike; with fewer than
    7 days there is no interval. Days that follow each other are alike as well: read the interval as a lower bound.
    """
    last = _judged(days)
    if last.is_empty():
        return None
    return Gain(
        first=last["day"][0],
        last=last["day"][-1],
        days=last.height,
        rows=int(last["rows"].sum()),
        earned=float(last["earned"].sum()),
        baseline=float(last["baseline"].sum()),
        hindsight=float(last[HINDSIGHT].sum()),
        over_baseline=_interval(last["earned"] - last["baseline"], seed),
        over_hindsight=_interval(last["earned"] - last[HINDSIGHT], seed),
    )


def _judged(days: pl.DataFrame) -> pl.DataFrame:
    counted = days.filter(pl.col("status") == "realised", *(pl.col(name).is_not_null() for name in MONEY[:2]))
    return counted.sort("day").tail(LAST_DAYS)


def _interval(gains: pl.Series, seed: int) -> Interval | None:
    if len(gains) < LEAST_DAYS:
        return None
    drawn = np.random.default_rng(seed).integers(0, len(gains), (RESAMPLES, len(gains)))
    low, high = np.quantile(gains.to_numpy()[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def earns_more(kpi: Kpi) -> tuple[bool, str]:
    """Tell whether the last 28 realised days surely earned more than the baseline and than hindsight's same decision, and why.

    No where there is too little to say.
    """
    if kpi.terms.value is None:
        return False, "not applicable: no value declared; write value: to say what outcomes are worth"
    gain = recent_gain(kpi.days, seed=kpi.terms.seed)
    if gain is None:
        return False, f"undecided: no day has its outcomes yet ({int(kpi.totals['pending'] or 0):,} rows are pending)"
    if gain.rows < MINIMUM_ROWS or gain.over_baseline is None or gain.over_hindsight is None:
        few = f"{gain.rows:,} rows of {gain.days} days with outcomes"
        return False, f"undecided: {few}; {MINIMUM_ROWS} rows of {LEAST_DAYS} days are needed"
    surely = {"the baseline": gain.over_baseline, "one decision for all": gain.over_hindsight}
    doubtful = [name for name, (low, _) in surely.items() if low <= 0]
    told = [
        f"{gain.earned:,.0f} {kpi.terms.currency}".rstrip() + " earned",
        _compare(gain.earned, gain.baseline, gain.over_baseline, f"the baseline ({_named(kpi)})"),
        _compare(gain.earned, gain.hindsight, gain.over_hindsight, f"{kpi.hindsight}, best in hindsight"),
    ]
    verdict = f"not surely more than {' or '.join(doubtful)}" if doubtful else "more than the baseline"
    if gain.over_baseline[1] < 0:
        verdict = "less than the baseline"
    return not doubtful, f"{verdict}: {'; '.join(told)}; {gain.rows:,} rows, {gain.first} to {gain.last}"


def _compare(earned: float, other: float, interval: Interval, who: str) -> str:
    low, high = interval
    return f"{other:,.0f} by {who}, a gain of {earned - other:,.0f} (95 %: {low:,.0f} to {high:,.0f})"


def _named(kpi: Kpi) -> str:
    return ", ".join(dict.fromkeys(kpi.baselines.values()))


def _live(
    lake: Lake,
    problem: str,
    own: Office,
    before: Sequence[Office],
    *,
    key: Sequence[str],
    task: Task,
    terms: Terms,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Predictions of each version from its first live moment on, and the observations of their days; what is needed of both.

    Where no row says who answered, the model in office did.
    """
    predicted, observed = (days_of(lake, keys.problem(problem, part)) for part in ("predictions", "observations"))
    first = min(keys.day(office.live_from) for office in (*before, own))
    days = [day for day in predicted.days if day >= first]
    wanted = [*key, MOMENT, VERSION, "in_sample", PREDICTION, *stored_columns(task), *terms.slices, terms.last_value]
    predictions = _columns(predicted, days, wanted)
    told = pl.col(VERSION).cast(pl.String) if VERSION in predictions.columns else pl.lit(own.version).alias(VERSION)
    live = predictions.with_columns(told).filter(_is_live([*before, own]))
    return live, _columns(observed, days, [*key, MOMENT, *LABELS])


def _columns(table: DaysOf, days: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    rows = table.scan(days)
    there = set(rows.collect_schema())
    return rows.select(name for name in dict.fromkeys(names) if name in there).collect()


def _is_live(answering: Sequence[Office]) -> pl.Expr:
    moment, version = pl.col(MOMENT), pl.col(VERSION)
    return pl.any_horizontal((version == one.version) & (moment >= one.live_from) for one in answering)


def _baselines(
    lake: Lake, problem: str, answering: Sequence[Office], predictions: pl.DataFrame, *, task: Task, terms: Terms
) -> dict[str, Baseline]:
    """The baseline of each version that answered a row; without one where its training set is gone."""
    if terms.value is None:
        return {}
    versions = set(predictions[VERSION])
    found = {}
    for office in answering:
        if office.version in versions:
            training = _training(lake, problem, office, terms.last_value, predictions.columns)
            if training is not None and not training.is_empty():
                found[office.version] = baseline_of(training, task=task, terms=terms)
    return found


def _training(lake: Lake, problem: str, office: Office, last: str, there: Sequence[str]) -> pl.DataFrame | None:
    try:
        rows = lake.scan_version(keys.problem(problem, "training_set"), office.data_hash)
    except MissingPartitionError:  # swept away, as nobody else needs it
        return None
    names = [name for name in ("label", last) if name in rows.collect_schema() and name in (*there, "label")]
    return rows.filter(pl.col("split") == "train").select(names).filter(pl.col("label").is_not_null()).collect()


def baseline_of(training: pl.DataFrame, *, task: Task, terms: Terms) -> Baseline:
    """Return the decision without a model that was worth most on the rows of training (`label`, perhaps the last outcome).

    The last outcome is a decision only where the answer is a number.
    """
    if terms.value is None:
        raise ValueError("terms.value is None: without a declared value no decision is worth more than another")
    y = task.labels(training["label"])
    decision, name = terms.value.constant(y)
    constant = Baseline(name, decision)
    if task.output != "value" or terms.last_value not in training.columns:
        return constant
    if not training[terms.last_value].dtype.is_numeric():
        return constant
    last = Baseline(f"last value ({terms.last_value})", decision, terms.last_value)
    worth = {one: terms.value.earned(y, one.decided(training)).sum() for one in (constant, last)}
    return max(worth, key=lambda one: worth[one])


def _end(predictions: pl.DataFrame, now: datetime) -> datetime:
    last: Any = predictions[MOMENT].max()
    return now if last is None else last + timedelta(days=1)


def _rows(
    predictions: pl.DataFrame,
    matched: Matched,
    *,
    task: Task,
    threshold: float,
    terms: Terms,
    baselines: Mapping[str, Baseline],
) -> _Rows:
    known = matched.rows
    live, state = predictions[known["row"]], known["state"]
    rows = live.filter(state == "matured")
    y, decided, score = np.empty(0), np.empty(0), np.empty(0)
    if rows.height:
        y, decided = task.labels(known["label"].filter(state == "matured")), task.labels(rows[PREDICTION])
        score = task.stored(rows)
    waiting = live.filter(state.is_in(["pending", "never", "contradictory"]))
    versions = pl.DataFrame({"day": _day(live), VERSION: live[VERSION]})
    days = ledger(known, now=matched.now, declared=terms.label_delay)
    return _Rows(
        Answered(task, threshold, rows, y, score, waiting),
        _worth(rows, y, decided, task=task, value=terms.value, baselines=baselines),
        days.join(versions.group_by("day").agg(pl.col(VERSION).unique().sort().str.join(", ")), on="day"),
    )


def _worth(
    rows: pl.DataFrame,
    y: np.ndarray,
    decided: np.ndarray,
    *,
    task: Task,
    value: Value | None,
    baselines: Mapping[str, Baseline],
) -> pl.DataFrame:
    """Each row with a known outcome: its day, whether it was acted on and rightly so, and its money."""
    acted: Any = ACTED[task.output](decided)
    money: dict[str, Any] = dict.fromkeys(MONEY)
    if value is not None:
        money = {"earned": value.earned(y, decided), "perfect": value.perfect(y)}
        money["baseline"] = _by_baseline(rows, y, value, baselines)
    told = {"actions": acted, "conversions": None if acted is None else acted & (y == decided), **money}
    columns = [pl.Series(name, what, dtype=WORTH[name]) for name, what in told.items() if what is not None]
    absent = [pl.lit(None, WORTH[name]).alias(name) for name, what in told.items() if what is None]
    return pl.DataFrame([pl.Series("day", _day(rows)), *columns]).with_columns(absent)


WORTH: dict[str, Any] = {**dict.fromkeys(COUNTS, pl.Boolean), **dict.fromkeys(MONEY, pl.Float64)}
ACTED: Mapping[str, Any] = {
    "probability": lambda decided: decided == 1,
    "probabilities": lambda decided: np.full(len(decided), True),
    "value": lambda _: None,
}


def _by_baseline(rows: pl.DataFrame, y: np.ndarray, value: Value, baselines: Mapping[str, Baseline]) -> pl.Series:
    """What the baseline of each row's version would have earned; null where that is not known."""
    found, versions = np.full(rows.height, np.nan), rows[VERSION].to_numpy()
    for version, baseline in baselines.items():
        mine = versions == version
        found[mine] = value.earned(y[mine], baseline.decided(rows.filter(mine)))
    return pl.Series(found).fill_nan(None)


def _by_day(rows: _Rows, terms: Terms) -> pl.DataFrame:
    days = rows.days.rename({"arrived": "rows"}).join(_summed(rows.worth, ["day"]), on="day", how="left").sort("day")
    so_far = [pl.col(name).fill_null(0.0).cum_sum().alias(f"{name}_so_far") for name in MONEY if terms.value]
    found = days.with_columns(_status(), *so_far, currency=pl.lit(terms.currency))
    return pl.DataFrame({name: found.get_column(name, default=None) for name in KPI_SCHEMA}, schema=KPI_SCHEMA)


def _with_hindsight(days: pl.DataFrame, rows: _Rows, terms: Terms) -> tuple[pl.DataFrame, str]:
    """Add to the days that are judged what the best of all same decisions would have earned, and name it."""
    judged = rows.worth["day"].is_in(_judged(days)["day"].to_list())
    if terms.value is None or not judged.any():
        return days, ""
    y = rows.answered.y[judged.to_numpy()]
    decision, name = terms.value.constant(y)
    earned = pl.DataFrame(
        {"day": rows.worth["day"].filter(judged), HINDSIGHT: terms.value.earned(y, np.full(len(y), decision))}
    )
    by_day = earned.group_by("day").agg(pl.col(HINDSIGHT).sum())
    return days.drop(HINDSIGHT).join(by_day, on="day", how="left", maintain_order="left").select(*KPI_SCHEMA), name


def _status() -> pl.Expr:
    done = pl.when(pl.col("rows") > 0).then(pl.lit("realised")).otherwise(pl.lit("no outcome"))
    return pl.when("mature").then(done).otherwise(pl.lit("pending")).alias("status")


def _summed(worth: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    return worth.group_by(by).agg(_sum(name) for name in (*COUNTS, *MONEY))


def _sum(name: str) -> pl.Expr:
    """The sum, or null where there is nothing to add up: nothing known is not zero."""
    column = pl.col(name)
    total = column.sum() if name in MONEY else column.cast(pl.Int64).sum()
    return pl.when(column.count() > 0).then(total).alias(name)


def _by_slice(rows: _Rows, terms: Terms) -> pl.DataFrame:
    found = []
    for column in (name for name in terms.slices if name in rows.answered.frame.columns):
        for value, places, waiting in parts(rows.answered, column):
            sums = rows.worth[places].select(_sum(name) for name in (*COUNTS, *MONEY)).row(0, named=True)
            found.append(
                {"slice": column, "value": value, "rows": len(places), "without_outcome": waiting, **sums}
                | _compared(sums, len(places))
            )
    return pl.DataFrame(found, schema=SLICE_SCHEMA)


def _compared(sums: Mapping[str, Any], rows: int) -> dict[str, Any]:
    if rows < MINIMUM_ROWS:
        return {"gain": None, "note": f"too few rows: {rows}, fewer than {MINIMUM_ROWS}"}
    if sums["earned"] is None or sums["baseline"] is None:
        return {"gain": None, "note": ""}
    return {"gain": (sums["earned"] - sums["baseline"]) / rows * PER, "note": ""}


def _sweep(rows: _Rows, champion: Champion, terms: Terms) -> Sweep | None:
    if terms.value is None or champion.bundle.task.output != "probability":
        return None
    answered = rows.answered
    mine = (answered.frame[VERSION] == champion.version).to_numpy()
    days = rows.worth["day"].to_numpy()[mine]
    y, score = answered.y[mine], answered.score[mine]
    return sweep(terms.value, y, score, days, threshold=champion.bundle.threshold, seed=terms.seed)


def _day(frame: pl.DataFrame) -> pl.Series:
    return frame.select(pl.col(MOMENT).dt.date().dt.to_string().alias("day")).to_series()
