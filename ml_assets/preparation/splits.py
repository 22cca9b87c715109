"""Splits by time: train before validation before test, counted back from the last complete period."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from ml_assets.preparation.spans import Span

SPLITS = ("train", "validation", "test")


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


def split_windows(*, as_known_at: datetime, train: str, validation: str, test: str) -> SplitWindows:
    """Count the windows back from the last complete calendar unit (of the test span) before `as_known_at`, in UTC."""
    spans = [Span.parse(text) for text in (train, validation, test)]
    end = spans[2].floor(as_known_at.astimezone(UTC))
    test_start = spans[2].before(end)
    validation_start = spans[1].before(test_start)
    return SplitWindows(spans[0].before(validation_start), validation_start, test_start, end)
