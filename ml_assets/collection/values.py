"""From text, and from the values of Parquet and JSON, to a column's declared type: what does not fit becomes null."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl
from polars import selectors

from ml_assets.collection.formats import Dialect

MOMENT = pl.Datetime("us", "UTC")
TYPES: Mapping[str, pl.DataType] = {
    "Int64": pl.Int64(),
    "Float64": pl.Float64(),
    "String": pl.String(),
    "Boolean": pl.Boolean(),
    "Date": pl.Date(),
    "Datetime": MOMENT,
}
# The marks between groups of digits come in several shapes: no-break spaces, the typographic apostrophe.
GROUPS = {",": ",", ".": r"\.", " ": "[ \u00a0\u202f]", "'": "['’]"}
SAMPLE = datetime(2013, 11, 30, 22, 45, 17, 250_000, tzinfo=UTC)
SECONDS_A_DAY = 86_400
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # in a second
FIRST, AFTER = -62_135_596_800, 253_402_300_800  # the year 1 and the year 10000, in seconds since 1970
MOST_NOTATIONS = 4  # of times in one column: with and without a fraction, with and without a zone


def from_text(values: pl.Series, dtype: str, dialect: Dialect, *, form: str = "") -> pl.Series:
    """Return a column of text as `dtype`; null where the text is no such value.

    `form` is how days and times are written (`strftime`); without it they are ISO 8601. Times without a zone are UTC.
    """
    if dtype == "Int64":
        return _whole(values, dialect)
    if dtype == "Float64":
        return _finite(_real(values, dialect))
    if dtype == "Boolean":
        return _boolean(values, dialect)
    if dtype == "String":
        return values
    return _in_calendar(_day(values, form) if dtype == "Date" else _moment(values, form))


def quickly(frame: pl.DataFrame, types: Mapping[str, str], dialect: Dialect) -> dict[str, pl.Series]:
    """Return the columns of text that are declared as numbers, and in which every value is plainly one, all in a few passes.

    What `from_text` and `without_nan` return for them; the other columns need these. A call of Polars for each step and
    each column takes longer than the work in a file of one day.
    """
    quick = ("Int64", "Float64") if dialect.decimal == "." else ("Int64",)
    wanted = {name: TYPES[dtype] for name, dtype in types.items() if dtype in quick and name in frame.columns}
    found = frame.select(pl.col(name).cast(dtype, strict=False) for name, dtype in wanted.items())
    infinite = found.select(selectors.float().is_infinite().any())
    plain = [
        name
        for name in found.columns
        if found[name].null_count() == frame[name].null_count() and not (name in infinite and infinite[name].item())
    ]
    return {column.name: column for column in found.select(plain).with_columns(selectors.float().fill_nan(None))}


def form_problem(form: str, dtype: str) -> str:
    """Return why days (`Date`) or times (`Datetime`) cannot be read by a `strftime` form; empty when they can."""
    if "%Z" in form:
        return "%Z names a zone, and names of zones are ambiguous; write the offset, %z, or times in UTC"
    written = pl.Series([SAMPLE.strftime(form)])
    try:
        found = from_text(written, dtype, Dialect(), form=form)[0]
    except pl.exceptions.PolarsError as error:
        return f"{str(error).splitlines()[0]}; write it like %d.%m.%Y %H:%M"
    day = found.date() if isinstance(found, datetime) else found
    return "" if day == SAMPLE.date() else "it does not give year, month and day; write it like %d.%m.%Y or %d/%m/%y"


# -- text ------------------------------------------------------------------------------------------------------------------


def _whole(values: pl.Series, dialect: Dialect) -> pl.Series:
    """Return whole numbers; 1.0 is one as well, as pandas writes it beside nulls."""
    found = values.cast(pl.Int64, strict=False)
    if found.null_count() == values.null_count():
        return found
    exact = _plain(values, dialect).str.replace(r"^([+-]?\d+)\.0+$", "$1").cast(pl.Int64, strict=False)
    return found.fill_null(exact)


def _real(values: pl.Series, dialect: Dialect) -> pl.Series:
    if dialect.decimal == ".":
        found = values.cast(pl.Float64, strict=False)
        if not dialect.thousands or found.null_count() == values.null_count():
            return found
    return _plain(values, dialect).cast(pl.Float64, strict=False)


def _plain(values: pl.Series, dialect: Dialect) -> pl.Series:
    """Return numbers with a decimal point and without marks between groups; null where the marks are out of place."""
    text = pl.col(values.name)
    if dialect.thousands:
        mark, point = GROUPS[dialect.thousands], re.escape(dialect.decimal)
        grouped = text.str.contains(rf"^[+-]?\d{{1,3}}(?:{mark}\d{{3}})+(?:{point}\d*)?$")
        text = pl.when(grouped).then(text.str.replace_all(mark, "")).otherwise(text)
    if dialect.decimal != ".":
        text = pl.when(~text.str.contains(".", literal=True)).then(text.str.replace(dialect.decimal, ".", literal=True))
    return values.to_frame().select(text.alias(values.name)).to_series()


def _finite(values: pl.Series) -> pl.Series:
    """Return numbers, null where they are infinite: no measurement is, but an overflow and a division by zero are."""
    infinite = values.is_infinite()
    return values.set(infinite, None) if infinite.any() else values


def without_nan(values: pl.Series) -> pl.Series:
    """Return a column with null for NaN, which is how some programs write that there is no value."""
    return values.fill_nan(None) if values.dtype == pl.Float64 else values


def _boolean(values: pl.Series, dialect: Dialect) -> pl.Series:
    words = {word.lower(): True for word in dialect.true_values} | {
        word.lower(): False for word in dialect.false_values
    }
    return values.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)


def _day(values: pl.Series, form: str) -> pl.Series:
    return values.str.to_date(_chrono(form) or "%Y-%m-%d", strict=False)


def _moment(values: pl.Series, form: str) -> pl.Series:
    if form:
        return values.str.to_datetime(_chrono(form), time_unit="us", time_zone="UTC", strict=False)
    # Polars would read 01/02/2013 as a day of February; only what begins with the year is beyond doubt.
    values = values.set(~values.str.contains(r"^\d{4}"), None)
    found = _inferred(values)
    for _ in range(MOST_NOTATIONS - 1):
        if found.null_count() == values.null_count():
            break
        found = found.fill_null(_inferred(values.set(found.is_not_null(), None)))
    return found


def _inferred(values: pl.Series) -> pl.Series:
    """Read the times that are written as the first one is."""
    return values.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)


def _chrono(form: str) -> str:
    """Return the form as Polars spells it: it counts a fraction of a second in another way than Python."""
    return form.replace(".%f", "%.f").replace("%f", "%6f")


def _in_calendar(values: pl.Series) -> pl.Series:
    """Return days or times (in microseconds), null outside the years 1 to 9999, which Python cannot hold."""
    each = UNITS["us"] if values.dtype == MOMENT else 1 / SECONDS_A_DAY
    inside = values.to_physical().cast(pl.Int64).is_between(int(FIRST * each), int(AFTER * each) - 1)
    return values.set(~inside, None) if not inside.all() else values


# -- values with a type ----------------------------------------------------------------------------------------------------


def from_numbers(values: pl.Series, dtype: str) -> pl.Series:
    """Return a column of numbers as `Int64`, null where that would not be exact, or as `Float64`, null where it is infinite."""
    if dtype == "Float64":
        return _finite(values.cast(pl.Float64, strict=False))
    found = values.cast(pl.Int64, strict=False)
    if values.dtype.is_integer():
        return found
    return found.set(found.cast(values.dtype, strict=False).ne_missing(values), None)


def moments(counts: pl.Series, unit: str) -> pl.Series:
    """Return times from counts of a unit (s, ms, us, ns) since 1970; null outside the years 1 to 9999.

    Counts, because Polars panics on times that it cannot show. What is finer than a microsecond is cut off.
    """
    each = UNITS[unit]
    inside = counts.is_between(max(FIRST * each, -(2**63)), min(AFTER * each - 1, 2**63 - 1))
    counts = counts.set(~inside, None)
    micros = counts * (UNITS["us"] // each) if each <= UNITS["us"] else counts // (each // UNITS["us"])
    return micros.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def days(found: pl.Series) -> pl.Series:
    """Return times as days. Only a midnight is a day (pandas writes days so); other times become null."""
    dates = found.dt.date()
    return dates.set(dates.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").ne_missing(found), None)


def _is_whole(value: Any) -> bool:
    return (type(value) is int or (type(value) is float and value.is_integer())) and -(2**63) <= value < 2**63


def _is_real(value: Any) -> bool:
    return math.isfinite(value) if type(value) is float else type(value) is int and abs(value) <= sys.float_info.max


def _is_text(value: Any) -> bool:
    return type(value) is str and (value.isascii() or not any("\ud800" <= mark <= "\udfff" for mark in value))


def _is_boolean(value: Any) -> bool:
    return type(value) is bool


# Which values of JSON a type takes, and as what they are held; days and times are text there.
IN_JSON: Mapping[str, tuple[Callable[[Any], bool], type, pl.DataType]] = {
    "Int64": (_is_whole, int, pl.Int64()),
    "Float64": (_is_real, float, pl.Float64()),
    "String": (_is_text, str, pl.String()),
    "Boolean": (_is_boolean, bool, pl.Boolean()),
    "Date": (_is_text, str, pl.String()),
    "Datetime": (_is_text, str, pl.String()),
}
