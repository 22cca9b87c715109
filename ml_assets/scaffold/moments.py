"""Which notation of days and times a column of text is written in. Day-first or month-first is decided by the values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from ml_assets.collection.formats import Dialect
from ml_assets.collection.values import from_text

SAMPLE = 1_000
TEXT = "[A-Za-z]"
# A day's shape, and its forms in strftime: where there are two, the first one is rather meant when the values do not tell.
DAYS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\d{4}-\d{2}-\d{2}", ("%Y-%m-%d",)),
    (r"\d{4}/\d{1,2}/\d{1,2}", ("%Y/%m/%d",)),
    (r"\d{4}\.\d{1,2}\.\d{1,2}", ("%Y.%m.%d",)),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y", "%m.%d.%Y")),
    (r"\d{1,2}\.\d{1,2}\.\d{2}", ("%d.%m.%y", "%m.%d.%y")),
    (r"\d{1,2}/\d{1,2}/\d{4}", ("%m/%d/%Y", "%d/%m/%Y")),
    (r"\d{1,2}/\d{1,2}/\d{2}", ("%m/%d/%y", "%d/%m/%y")),
    (r"\d{1,2}-\d{1,2}-\d{4}", ("%d-%m-%Y", "%m-%d-%Y")),
    (rf"\d{{1,2}}-{TEXT}{{3}}-\d{{4}}", ("%d-%b-%Y",)),
    (rf"\d{{1,2}}-{TEXT}{{3}}-\d{{2}}", ("%d-%b-%y",)),
    (rf"\d{{1,2}} {TEXT}{{3}} \d{{4}}", ("%d %b %Y",)),
    (rf"\d{{1,2}} {TEXT}+ \d{{4}}", ("%d %B %Y",)),
    (rf"{TEXT}{{3}} \d{{1,2}}, \d{{4}}", ("%b %d, %Y",)),
    (rf"{TEXT}+ \d{{1,2}}, \d{{4}}", ("%B %d, %Y",)),
)
CLOCKS: tuple[tuple[str, str], ...] = (
    (r"\d{1,2}:\d{2}", "%H:%M"),
    (r"\d{1,2}:\d{2}:\d{2}", "%H:%M:%S"),
    (r"\d{1,2}:\d{2}:\d{2}\.\d+", "%H:%M:%S.%f"),
    (r"\d{1,2}:\d{2} [APap][Mm]", "%I:%M %p"),
    (r"\d{1,2}:\d{2}:\d{2} [APap][Mm]", "%I:%M:%S %p"),
)
ZONE = r"(?:Z|[+-]\d{2}:?\d{2})"
ISO_TIME = rf"\d{{4}}-\d{{2}}-\d{{2}}[T ]\d{{2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?{ZONE}?"
COMPACT = ("Date", "%Y%m%d", r"(?:19|20)\d{2}[01]\d[0-3]\d")


@dataclass(frozen=True)
class Notation:
    """How a column writes days (`Date`) or times (`Datetime`); `form` is empty for ISO 8601.

    `other` is the form with day and month changed over, when the values fit both: then a person should look.
    """

    type: str
    form: str = ""
    other: str = ""

    @property
    def day_first(self) -> bool | None:
        """Tell whether the day stands before the month, in numbers; None when the year or a word settles it."""
        if not re.match(r"%[dm][./-]%[md]", self.form):
            return None
        return self.form.startswith("%d")

    def read(self, values: pl.Series) -> pl.Series:
        """Return the text as days or times; null where it is none."""
        return from_text(values, self.type, Dialect(), form=self.form)

    def swapped(self) -> Notation:
        """Return the notation with day and month changed over."""
        return Notation(self.type, self.other, self.form)


def notation_of(values: pl.Series, *, compact: bool = False) -> Notation | None:
    """Return the notation in which all values (text without nulls, at least one) are days or times, or None.

    `compact` also takes 20130131, which is a number otherwise.
    """
    first = str(values[0]).strip()
    sample = values.head(SAMPLE)
    fitting = [found for found in _notations(first, compact=compact) if _reads(found, sample)]
    fitting = [found for found in fitting if _reads(found, values)]
    if not fitting:
        return None
    best = fitting[0]
    others = [found for found in fitting[1:] if found.type == best.type and found.day_first == (not best.day_first)]
    if best.day_first is None or not others:
        return best
    return _likelier(best, others[0], values)


def closest(values: pl.Series) -> tuple[Notation, pl.Series] | None:
    """Return the notation that most values have, and which have it not; None when hardly any value is a time."""
    tried = {}
    for text in values.unique(maintain_order=True).head(20):
        for found in _notations(str(text).strip(), compact=True):
            tried[found] = found.read(values).is_null()
    best = min(tried, key=lambda found: int(tried[found].sum()), default=None)
    if best is None or tried[best].mean() > 0.5:  # type: ignore[operator]
        return None
    return best, tried[best]


def _notations(text: str, *, compact: bool) -> Iterator[Notation]:
    """Yield the notations of one value's shape."""
    if re.fullmatch(ISO_TIME, text):
        yield Notation("Datetime")
    if compact and re.fullmatch(COMPACT[2], text):
        yield Notation(COMPACT[0], COMPACT[1])
    for shape, forms in DAYS:
        match = re.match(shape, text)
        if match:
            yield from (
                _with_clock(form, text[match.end() :]) for form in forms if _clock(text[match.end() :]) is not None
            )


def _with_clock(form: str, rest: str) -> Notation:
    if not rest:
        return Notation("Date", "" if form == "%Y-%m-%d" else form)
    return Notation("Datetime", f"{form}{_clock(rest)}")


def _clock(rest: str) -> str | None:
    """Return the form of what stands after the day: nothing, or a blank or T, a time, and perhaps a zone."""
    if not rest:
        return ""
    for shape, form in CLOCKS:
        match = re.fullmatch(rf"([ T]){shape}({ZONE}?)", rest)
        if match:
            return f"{match[1]}{form}{'%z' if match[2] else ''}"
    return None


def _reads(found: Notation, values: pl.Series) -> bool:
    return not found.read(values).has_nulls()


def _likelier(one: Notation, other: Notation, values: pl.Series) -> Notation:
    """Of two that fit all values: the one in which they are in order of time, else the first; the other one is kept."""
    if values.n_unique() > 2 and other.read(values).is_sorted() and not one.read(values).is_sorted():
        one, other = other, one
    return Notation(one.type, one.form, other.form)
