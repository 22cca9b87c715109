"""Lengths of calendar time, as people write them. Plain: declarations check them without loading a frame library."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta

_UNITS = {"d": "days", "w": "weeks"}


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

    @property
    def length(self) -> timedelta:
        """Return it as a length of time; a month counts as 30 days."""
        return timedelta(days=self.count * {"mo": 30, "w": 7, "d": 1}[self.unit])

    def before(self, moment: datetime) -> datetime:
        """Return the moment one span earlier; a month before 31 March is the last day of February."""
        if self.unit == "mo":
            months = moment.year * 12 + moment.month - 1 - self.count
            year, month = months // 12, months % 12 + 1
            return moment.replace(year=year, month=month, day=min(moment.day, monthrange(year, month)[1]))
        return moment - timedelta(**{_UNITS[self.unit]: self.count})

    def floor(self, moment: datetime) -> datetime:
        """Return the start of the calendar unit (month, or day) in which `moment` lies."""
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight.replace(day=1) if self.unit == "mo" else midnight
