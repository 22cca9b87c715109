"""The rows of a training set: which observations, in which split, and which were left out, by reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeVar

import polars as pl

from ml_assets.lake import Lake
from ml_assets.preparation import observations as observed
from ml_assets.preparation.observations import EVENT_TIMESTAMP, LABEL, LABEL_TIMESTAMP
from ml_assets.preparation.splits import SPLITS, SplitPlan
from ml_assets.quality import Expectation, Suite, suite_for

SPLIT = "split"
GAP = "in the gap before the next split"
ATTEMPTS = 3  # to read tables of one moment
T = TypeVar("T")


class TrainingSetError(ValueError):
    """There is nothing to train on, or nothing to judge by: a split has no labelled row."""


@dataclass(frozen=True)
class TrainingRows:
    """Labelled observations (all of them for a clustering), and the number left out by reason. By time they have their split."""

    labelled: pl.DataFrame
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Availability:
    """Whether the data is there as declared: since when, and how late outcomes become known."""

    as_declared: bool
    reason: str


def availability(
    observations: pl.LazyFrame, *, history_from: date | None, label_delay: timedelta | None
) -> Availability | None:
    """Hold what is declared of the data against the observations; None when nothing is declared that can be.

    History has to begin on the declared day or before; nineteen of twenty outcomes have to be known within the label delay.
    """
    schema = observations.collect_schema()
    delays = pl.col(LABEL_TIMESTAMP) - pl.col(EVENT_TIMESTAMP) if LABEL_TIMESTAMP in schema else pl.lit(timedelta(0))
    found = observations.select(first=pl.col(EVENT_TIMESTAMP).min().dt.date(), delay=delays.quantile(0.95)).collect()
    first, delay = found.row(0)
    told = []
    if history_from and first:
        told.append((first <= history_from, f"history begins {first}, declared {history_from}"))
    if label_delay and delay is not None and LABEL_TIMESTAMP in schema:
        told.append((delay <= label_delay, f"19 of 20 outcomes are known within {delay}, declared {label_delay}"))
    if not told:
        return None
    return Availability(all(good for good, _ in told), "; ".join(text for _, text in told))


def counts(training_set: pl.DataFrame) -> dict[str, int]:
    """Return the number of rows in each split."""
    found = dict(training_set[SPLIT].value_counts().iter_rows())
    return {name: int(found.get(name, 0)) for name in SPLITS}


def training_rows(
    observations: pl.LazyFrame, plan: SplitPlan, *, as_known_at: datetime, supervised: bool = True
) -> TrainingRows:
    """Return the observations whose label was known at `as_known_at`, in order of time; by time, those inside the windows.

    By time a row whose outcome was only known when the next split had begun is left out of its own: the gap for label delay.
    """
    known = observed.as_known_at(observations, as_known_at) if supervised else observations
    moment = pl.col(EVENT_TIMESTAMP)
    rows = known.filter(moment <= as_known_at).collect() if plan.by_time else known.collect()
    labelled = rows.filter(pl.col(LABEL).is_not_null()) if supervised else rows
    labelled = labelled.sort(EVENT_TIMESTAMP, maintain_order=True)
    if labelled.is_empty():
        what = "has a known outcome" if supervised else "is there"
        fix = ", or correct label and label_timestamp" if supervised else ""
        raise TrainingSetError(f"no observation {what} yet; deliver more{fix}")
    if not plan.by_time:
        return TrainingRows(labelled, _left_out(observations, as_known_at) if supervised else {})
    windows = plan.windows(labelled[EVENT_TIMESTAMP], as_known_at=as_known_at)
    split = labelled.with_columns(windows.expression(EVENT_TIMESTAMP).alias(SPLIT)).filter(pl.col(SPLIT).is_not_null())
    late = pl.col(LABEL_TIMESTAMP) if LABEL_TIMESTAMP in split.columns else moment + plan.gap
    kept = split.filter(~windows.too_late(late))
    inside = observations.filter(windows.expression(EVENT_TIMESTAMP).is_not_null())
    left_out = _left_out(inside, as_known_at) if supervised else {}
    return TrainingRows(kept, left_out | {GAP: split.height - kept.height})


def pinned(lake: Lake, tables: Sequence[str], make: Callable[[], T]) -> tuple[T, dict[str, str]]:
    """Return what `make` made of the lake's tables, and by table the snapshot of exactly what it was made from.

    It is made again when one of them was written meanwhile; `TrainingSetError` after three times.
    """
    for _ in range(ATTEMPTS):
        snapshots = {table: lake.snapshot(table) for table in tables}
        made = make()
        if snapshots == {table: lake.version(table) for table in tables}:
            return made, snapshots
    raise TrainingSetError(f"one of {list(tables)} was written while it was read, {ATTEMPTS} times; run it again")


def refuse_empty_splits(frame: pl.DataFrame) -> None:
    """Raise `TrainingSetError` for a training set of which a split has no row."""
    if empty := [name for name in SPLITS if not (frame[SPLIT] == name).any()]:
        first, last = (str(moment)[:10] for moment in (frame[EVENT_TIMESTAMP].min(), frame[EVENT_TIMESTAMP].max()))
        raise TrainingSetError(
            f"no labelled observation in {empty}: the rows are from {first} to {last}; "
            "deliver more days or declare a shorter split"
        )


def _left_out(inside: pl.LazyFrame, as_known_at: datetime) -> dict[str, int]:
    """Count observations without a usable label, by reason."""
    counts = observed.unlabelled(inside.collect(), as_known_at)
    return {f"outcome {reason}": count for reason, count in counts.items()}


def training_suite(
    table: str, schema: Mapping[str, pl.DataType], *, key: Sequence[str], supervised: bool = True
) -> Suite:
    """Return the suite of a training set: valid labels, unique keys, no column without a value, all three splits."""
    plain = [name for name in schema if name not in (LABEL, LABEL_TIMESTAMP, SPLIT)]
    some = {"mostly": 0.001}  # a column that is never filled is a broken join, not a feature
    labels = [Expectation("expect_column_values_to_not_be_null", {"column": LABEL})] if supervised else []
    return suite_for(
        table,
        (),
        extra=[
            *labels,
            Expectation("expect_column_distinct_values_to_be_in_set", {"column": SPLIT, "value_set": list(SPLITS)}),
            Expectation("expect_column_unique_value_count_to_be_between", {"column": SPLIT, "min_value": len(SPLITS)}),
            Expectation("expect_compound_columns_to_be_unique", {"column_list": [*key, EVENT_TIMESTAMP]}),
            *(Expectation("expect_column_values_to_not_be_null", {"column": name} | some) for name in plain),
        ],
    )
