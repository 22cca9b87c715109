"""Splits by time: train before validation before test, counted back from the last complete period."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

SPLITS = ("train", "validation", "test")
_UNITS = {"d": "days", "w": "weeks", "mo": "months"}


@dataclass(frozen=True)
class Span:
    """A length of calendar time: `8mo`, `4w`, `7d`."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read `8mo`, `4w` or `7d`; `ValueError` for anything else."""
        match = re.fullmatch(r"([1-9]\d*)(mo|w|d)", text)
        if match is None:
            raise ValueError(f"{text!r} is not a span of time; write a number and d, w or mo, such as 8mo")
        return cls(int(match[1]), match[2])

    def before(self, moment: datetime) -> datetime:
        """Return the moment one span earlier."""
        if self.unit == "mo":
            months = moment.year * 12 + moment.month - 1 - self.count
            return moment.replace(year=months // 12, month=months % 12 + 1)
        return moment - timedelta(**{_UNITS[self.unit]: self.count})

    def floor(self, moment: datetime) -> datetime:
        """Return the start of the calendar unit (month, or day) in which `moment` lies."""
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight.replace(day=1) if self.unit == "mo" else midnight


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
