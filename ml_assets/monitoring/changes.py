"""What is wrong with a table's newest days, told from profiles alone: the faults that need no reference and no model.

A window of days is held against the days before it. Only what is a fault in any table is named: a column that is gone or of
another type, a burst of nulls, another unit, a value that does not move any more, categories that came or went.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import NamedTuple

import numpy as np

from ml_assets import keys
from ml_assets.lake.manifest import WHOLE
from ml_assets.monitoring.drift import NAMED, UNIT
from ml_assets.monitoring.profiles import ColumnProfile, Profile, columns_of, merge

WINDOW_DAYS, BEFORE_DAYS = 7, 28
MINIMUM_ROWS = 50
"""Rows of either side below which nothing is said of shares."""
NULLS = 0.05  # so much larger, and more than twice as large, is a burst
USUAL = 0.9  # of the days before had fewer nulls than a burst has
SURE = 4.0  # standard errors, so that a burst is no chance in one of a hundred columns, every week
BEYOND = 5.0  # so many times larger or smaller than on any day before: it rains ten times as much in some weeks
CATEGORY_SHARE = 0.05  # of the rows: less often, a category may come and go with the season
TIMES = ("Date", "Time", "Duration")  # how Polars' names of types begin whose values go on by themselves; Datetime, too


class Judged(NamedTuple):
    """Whether a check passed, and why or why not, for a person; undecided: it did not pass because it cannot judge."""

    passed: bool
    reason: str
    undecided: bool = False


class Change(NamedTuple):
    """A fault of one column: its sign, by the name that drift has for it, and a sentence for a person."""

    column: str
    sign: str
    text: str


@dataclass(frozen=True)
class Newest:
    """A table's profiles by day, of which the newest are looked at: the last seven days against 28 before them."""

    days: Mapping[str, Profile]
    ignored: Collection[str] = ()  # columns that change by design, such as the version of the model

    @property
    def dated(self) -> list[str]:
        """Return the days in order; none of a table that has none."""
        return sorted(day for day in self.days if day != WHOLE)

    @property
    def window(self) -> list[Profile]:
        """Return the profiles of the last seven days, the newest being one of them; all there is without days."""
        return self._between(WINDOW_DAYS - 1, 0) if self.dated else list(self.days.values())

    @property
    def before(self) -> list[Profile]:
        """Return the profiles of the 28 days before the window."""
        return self._between(WINDOW_DAYS + BEFORE_DAYS - 1, WINDOW_DAYS)

    def _between(self, oldest: int, youngest: int) -> list[Profile]:
        if not self.dated:
            return []
        last = self.dated[-1]
        first, end = keys.before(last, oldest), keys.before(last, youngest)
        return [self.days[day] for day in self.dated if first <= day <= end]

    def as_before(self) -> Judged:
        """Tell whether the window looks as the days before it did. What cannot be judged does not pass."""
        if not self.window or not self.before:
            return Judged(False, "there are no days to compare yet: at least one before the last seven is needed", True)
        rows, earlier = (sum(one.rows for one in part) for part in (self.window, self.before))
        if min(rows, earlier) < MINIMUM_ROWS:
            told = f"{rows:,} rows in the last {WINDOW_DAYS} days, {earlier:,} in the {BEFORE_DAYS} before"
            return Judged(False, f"{told}: fewer than {MINIMUM_ROWS}, nothing can be said", True)
        found = [one for one in changes(self.before, self.window) if one.column not in self.ignored]
        if found:
            return Judged(False, "; ".join(f"{one.column}: {one.sign}, {one.text}" for one in found))
        return Judged(True, f"{rows:,} rows look as the {earlier:,} before them")

    def finite(self) -> Judged:
        """Tell whether there is no NaN and no infinity in the window, but where there were some before."""
        if not any(one.rows for one in self.window):
            return Judged(False, "there are no rows to look at", True)
        now, used = _odd(self.window), _odd(self.before)
        new = {name: text for name, text in now.items() if name not in used}
        if new:
            return Judged(False, "; ".join(f"{name}: {text}, where there were none" for name, text in new.items()))
        known = f"; as before in {', '.join(now)}" if now else ""
        return Judged(True, f"no NaN and no infinity{' but those known' if now else ''}{known}")

    def fresh(self, now: datetime, within: timedelta, *, last: str = "") -> Judged:
        """Tell whether the end (UTC) of the newest day with rows is at most `within` ago; after the declared `last` none comes."""
        filled = [day for day in self.dated if self.days[day].rows]
        if not filled:
            return Judged(False, "there is no day with rows yet", True)
        if last and filled[-1] >= last:
            return Judged(True, f"{last}, the last declared day, is there")
        ended = datetime.combine(date.fromisoformat(filled[-1]), time(), now.tzinfo) + timedelta(days=1)
        hours, limit = max(now - ended, timedelta(0)) / timedelta(hours=1), within / timedelta(hours=1)
        told = f"the newest day, {filled[-1]}, ended {hours:.3g} hours ago; {limit:g} are allowed"
        return Judged(now - ended <= within, told)


def changes(before: Sequence[Profile], now: Sequence[Profile]) -> list[Change]:
    """Return the faults of the days `now` against the days `before`, by column.

    Days, not their sum: a value that is the same all day, such as the month, is not frozen when it stays the same.
    """
    early, late = merge(before).columns, merge(now).columns
    found = []
    for name in columns_of([*before, *now]):
        old, new = early.get(name), late.get(name)
        if old is None or not old.rows:
            found.append(Change(name, "new column", "there was none before"))
        elif new is None or not new.rows:
            found.append(Change(name, "lost column", "there is none any more"))
        else:
            found += _of_column(old, new, [one.columns[name] for one in before if name in one.columns])
    return found


def _of_column(old: ColumnProfile, new: ColumnProfile, days: Sequence[ColumnProfile]) -> list[Change]:
    kinds = {old.kind, new.kind} - {"unknown"}
    if len(kinds) > 1 or "mixed" in kinds:
        return [Change(old.name, "type change", f"{new.dtype}, it was {old.dtype}")]
    texts = {
        "null burst": _null_burst(old, new, days),
        "frozen": _frozen(new, days),
        "unit change": _unit_change(old, new, days),
        "new categories": _categories(new, old, "new"),
        "vanished categories": _categories(old, new, "gone"),
    }
    return [Change(old.name, sign, text) for sign, text in texts.items() if text]


def _null_burst(old: ColumnProfile, new: ColumnProfile, days: Sequence[ColumnProfile]) -> str:
    early, late = (one.nulls / one.rows for one in (old, new))
    together = (old.nulls + new.nulls) / (old.rows + new.rows)
    error = (together * (1 - together) * (1 / old.rows + 1 / new.rows)) ** 0.5
    usual = float(np.quantile([day.nulls / day.rows for day in days if day.rows], USUAL))
    burst = late - early > max(NULLS, SURE * error) and late > max(2 * early, usual)
    return f"{late:.1%} null, {early:.1%} before" if burst else ""


def _frozen(new: ColumnProfile, days: Sequence[ColumnProfile]) -> str:
    """A dry week is no broken gauge: on most days before, the value must have moved within the day. Times stand still by design."""
    if new.dtype.startswith(TIMES):
        return ""
    moved = sum(day.value is None and day.rows > day.missing for day in days)
    return f"every value is {new.value}" if new.value is not None and moved > len(days) / 2 else ""


def _unit_change(old: ColumnProfile, new: ColumnProfile, days: Sequence[ColumnProfile]) -> str:
    early, late = _size(old), _size(new)
    if old.dtype.startswith(TIMES) or not early or not late or 1 / UNIT < late / early < UNIT:
        return ""
    sizes = [size for day in days if (size := _size(day))]
    if min(sizes) / BEYOND < late < max(sizes) * BEYOND:
        return ""
    return f"values are about {late / early:.3g} times those before"


def _size(column: ColumnProfile) -> float:
    """Return the root mean square of what is not 0: a mean may be near 0, and any multiple of another one."""
    some = column.finite - column.zeros
    if column.mean is None or some <= 0:
        return 0.0
    return math.sqrt((column.m2 / some) + column.mean * column.mean * (column.finite / some))


def _categories(there: ColumnProfile, missing: ColumnProfile, how: str) -> str:
    """Return which categories of one side the other lacks; of a column with too many to count them all, none."""
    if there.rest or missing.rest or there.kind != "categorical" or not missing.categories:
        return ""
    rows = there.rows - there.nulls
    lacking = {name: count for name, count in there.categories.items() if name not in missing.categories}
    if sum(lacking.values()) <= CATEGORY_SHARE * rows:
        return ""
    ranked = sorted(lacking, key=lambda name: (-lacking[name], name))
    more = f" and {len(ranked) - NAMED} more" if len(ranked) > NAMED else ""
    return f"{how}: {', '.join(ranked[:NAMED])}{more}, {sum(lacking.values()) / rows:.1%} of rows"


def _odd(days: Sequence[Profile]) -> dict[str, str]:
    """Return, for each column with NaN or infinities, how many."""
    columns = merge(days).columns if days else {}
    return {
        name: f"{one.nans:,} NaN, {one.infinities:,} infinite"
        for name, one in columns.items()
        if one.nans + one.infinities
    }
