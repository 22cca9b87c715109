"""The rows of a training set: which observations, in which split, and which were left out, by reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from ml_assets.preparation import observations as observed
from ml_assets.preparation.observations import EVENT_TIMESTAMP, LABEL, LABEL_TIMESTAMP
from ml_assets.preparation.splits import SPLITS, SplitWindows
from ml_assets.quality import Expectation, Suite, suite_for

SPLIT = "split"


class TrainingSetError(ValueError):
    """There is nothing to train on, or nothing to judge by: a split has no labelled row."""


@dataclass(frozen=True)
class TrainingRows:
    """Labelled observations with their split, the number in each split, and the number left out by reason."""

    labelled: pl.DataFrame
    counts: Mapping[str, int]
    unlabelled: Mapping[str, int]


def training_rows(observations: pl.LazyFrame, windows: SplitWindows, *, as_known_at: datetime) -> TrainingRows:
    """Return the observations inside the windows whose label was known at `as_known_at`, in order of time."""
    split = observations.with_columns(windows.expression(EVENT_TIMESTAMP).alias(SPLIT)).filter(
        pl.col(SPLIT).is_not_null()
    )
    inside = observed.as_known_at(split, as_known_at).collect()
    labelled = inside.filter(pl.col(LABEL).is_not_null()).sort(EVENT_TIMESTAMP, maintain_order=True)
    found = dict(labelled[SPLIT].value_counts().iter_rows())
    counts = {name: int(found.get(name, 0)) for name in SPLITS}
    if empty := [name for name, count in counts.items() if not count]:
        raise TrainingSetError(
            f"no labelled observation in {empty}: the windows are {windows.train_start:%Y-%m-%d} to {windows.end:%Y-%m-%d}; "
            "deliver more days or declare a shorter split"
        )
    return TrainingRows(labelled, counts, observed.unlabelled(split.collect(), as_known_at))


def training_suite(table: str, schema: Mapping[str, pl.DataType], *, key: Sequence[str]) -> Suite:
    """Return the suite of a training set: valid labels, unique keys, no column without a value, all three splits."""
    plain = [name for name in schema if name not in (LABEL, LABEL_TIMESTAMP, SPLIT)]
    some = {"mostly": 0.001}  # a column that is never filled is a broken join, not a feature
    return suite_for(
        table,
        (),
        extra=[
            Expectation("expect_column_values_to_not_be_null", {"column": LABEL}),
            Expectation("expect_column_distinct_values_to_be_in_set", {"column": SPLIT, "value_set": list(SPLITS)}),
            Expectation("expect_column_unique_value_count_to_be_between", {"column": SPLIT, "min_value": len(SPLITS)}),
            Expectation("expect_compound_columns_to_be_unique", {"column_list": [*key, EVENT_TIMESTAMP]}),
            *(Expectation("expect_column_values_to_not_be_null", {"column": name} | some) for name in plain),
        ],
    )
