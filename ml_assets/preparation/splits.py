"""Splits: train before validation before test in order of time, or drawn at random with what belongs together on one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from ml_assets.preparation.spans import Span

SPLITS = ("train", "validation", "test")
STRATA = 5
"""Groups of outcomes from low to high of which a random split of a regression keeps the shares."""


@dataclass(frozen=True)
class SplitWindows:
    """Four moments: train is [train_start, validation_start), and so on; `end` is excluded."""

    train_start: datetime
    validation_start: datetime
    test_start: datetime
    end: datetime

    def expression(self, time: str = "event_timestamp") -> pl.Expr:
        """Return the split of each row: train, validation, test, or null outside."""
        moment = pl.col(time)
        return (
            pl.when(moment < self.train_start)
            .then(None)
            .when(moment < self.validation_start)
            .then(pl.lit("train"))
            .when(moment < self.test_start)
            .then(pl.lit("validation"))
            .when(moment < self.end)
            .then(pl.lit("test"))
            .otherwise(None)
        )

    def too_late(self, known: pl.Expr, *, split: str = "split") -> pl.Expr:
        """Tell of each row whether its outcome was known (the time `known`) only after the next split had begun.

        Whoever had trained at that moment could not have had it: such rows of train and validation are the gap between splits.
        """
        next_start = {"train": self.validation_start, "validation": self.test_start}
        late = [(pl.col(split) == name) & (known > start) for name, start in next_start.items()]
        return pl.any_horizontal(late).fill_null(False)


def split_windows(*, as_known_at: datetime, train: str, validation: str, test: str) -> SplitWindows:
    """Count the windows back from the last complete calendar unit (of the test span) before `as_known_at`, in UTC."""
    spans = [Span.parse(text) for text in (train, validation, test)]
    end = spans[2].floor(as_known_at.astimezone(UTC))
    test_start = spans[2].before(end)
    validation_start = spans[1].before(test_start)
    return SplitWindows(spans[0].before(validation_start), validation_start, test_start, end)


def share_windows(moments: pl.Series, *, train: float, validation: float) -> SplitWindows:
    """Cut the time of `moments` (UTC, one or more) so that train and validation have about these shares of the rows, test the rest.

    Rows of one moment are in one split.
    """
    ordered = moments.sort()
    cuts = [ordered[min(len(ordered) - 1, round(share * len(ordered)))] for share in (train, train + validation)]
    return SplitWindows(ordered[0], cuts[0], cuts[1], ordered[-1] + timedelta(microseconds=1))


def random_split(together: pl.Series, outcome: pl.Series | None, *, shares: Sequence[float], seed: int) -> pl.Series:
    """Return each row's split, drawn with `shares` of train, validation and test.

    Rows with the same value of `together` get the same split. Each split has about the shares of each outcome (of numbers with
    many values: of each fifth from low to high), so that few rows are divided evenly too.
    """
    units = pl.DataFrame({"unit": together, "stratum": _strata(outcome, len(together))})
    first = units.group_by("unit", maintain_order=True).agg(pl.col("stratum").first(), rows=pl.len())
    order = np.random.default_rng(seed).permutation(first.height)
    drawn = first[order].sort("stratum", maintain_order=True)
    # Where each unit's middle lies in its stratum, 0 to 1.
    middle = (pl.col("rows").cum_sum() - pl.col("rows") / 2).over("stratum") / pl.col("rows").sum().over("stratum")
    share = shares[0], shares[0] + shares[1]
    split = pl.when(middle < share[0]).then(pl.lit("train")).when(middle < share[1]).then(pl.lit("validation"))
    assigned = drawn.select("unit", split=split.otherwise(pl.lit("test")))
    return units.join(assigned, on="unit", how="left", maintain_order="left", nulls_equal=True)["split"]


def _strata(outcome: pl.Series | None, rows: int) -> pl.Series:
    if outcome is None:
        return pl.repeat("", rows, eager=True)
    if outcome.dtype.is_numeric() and outcome.n_unique() > 2 * STRATA:
        return (outcome.rank("ordinal") * STRATA / (rows + 1)).floor().cast(pl.Int64).cast(pl.String)
    return outcome.cast(pl.String)


@dataclass(frozen=True)
class SplitPlan:
    """How a problem's rows are split, as declared.

    By time `train`, `validation` and `test` are spans (`8mo`), counted back from now, or shares of the rows in order of time; at
    random they are shares. Rows of one `group` (a column), and rows that are the same in all features, stay on one side.
    `gap` is the least time between a row and the next split when outcomes carry no time of their own.
    """

    by_time: bool = True
    train: str | float = 0.6
    validation: str | float = 0.2
    test: str | float = 0.2
    gap: timedelta = timedelta(0)
    group: str | None = None
    seed: int = 0

    def windows(self, moments: pl.Series, *, as_known_at: datetime) -> SplitWindows:
        """Return the windows of a split by time; `moments` are those of the rows that may be in it."""
        spans = [one for one in (self.train, self.validation, self.test) if isinstance(one, str)]
        if len(spans) == len(SPLITS):
            return split_windows(as_known_at=as_known_at, train=spans[0], validation=spans[1], test=spans[2])
        return share_windows(moments, train=float(self.train), validation=float(self.validation))

    def drawn(self, frame: pl.DataFrame, features: Sequence[str], *, label: str = "label") -> pl.Series:
        """Return the splits of a random draw."""
        outcome = frame[label] if label in frame.columns else None
        shares = [float(one) for one in (self.train, self.validation, self.test)]
        return random_split(together(frame, features, self.group), outcome, shares=shares, seed=self.seed)


def together(frame: pl.DataFrame, features: Sequence[str], group: str | None = None) -> pl.Series:
    """Return what has to stay on one side: rows of one group; without it, rows that are the same in all features."""
    if group is not None:
        return frame[group].cast(pl.String)
    return frame.select(features).hash_rows(seed=1)
