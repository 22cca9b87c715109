"""The contract of one table from outside, and the reader that enforces it on one delivered file."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime

import polars as pl

from ml_assets.collection.formats import MOST_BYTES, ContractError, Dialect, Format, decompress, format_of
from ml_assets.collection.tables import CsvTable, Table, open_table
from ml_assets.collection.values import TYPES
from ml_assets.quality.contract import ColumnContract

LANDED_AT = "landed_at"
MOST_NAMED = 10  # columns in one message
INDEX = ("", "__index_level_0__", "Unnamed: 0")


@dataclass(frozen=True, eq=False)
class SourceContract:
    """What one source delivers.

    `pattern` is the file's name in the landing zone, with `{day}` (2013-01-31) when the source is partitioned by day;
    `*` stands for anything within a name, so that a correction may have a name of its own.
    `days` is the interval of days that are expected, `2013-01-01/2013-12-31`, or open-ended, `2013-01-01/`.
    `day_columns` name the year, month and day columns whose values must agree with the file's day.
    `format` is that of the files; None: as the pattern ends. From `null_values` to `false_values` they are as in `Dialect`.
    `past` are columns of days and times that say what has happened: none may lie after the moment of collecting.
    `forms` tell for columns of days and times how text writes them (`strftime`); the others are ISO 8601.
    """

    name: str
    pattern: str
    columns: Sequence[ColumnContract]
    key: Sequence[str] = ()
    null_values: Sequence[str] = Dialect.null_values
    separator: str = Dialect.separator
    day_columns: Sequence[str] = ()
    days: str | None = None
    format: Format | None = None
    encoding: str = Dialect.encoding
    quote: str = Dialect.quote
    decimal: str = Dialect.decimal
    thousands: str = Dialect.thousands
    true_values: Sequence[str] = Dialect.true_values
    false_values: Sequence[str] = Dialect.false_values
    forms: Mapping[str, str] = field(default_factory=dict)
    past: Sequence[str] = ()

    @property
    def dialect(self) -> Dialect:
        """Return how the source writes text."""
        return Dialect(**{item.name: getattr(self, item.name) for item in fields(Dialect)})

    @property
    def partitioned(self) -> bool:
        """Tell whether each file is one day."""
        return "{day}" in self.pattern

    @property
    def folder(self) -> str:
        """Return the folder in the landing zone that belongs to this source."""
        return self.pattern.rsplit("/", 1)[0] if "/" in self.pattern else ""

    def format_of(self, name: str) -> Format:
        """Return the format of a file: as declared, as the pattern ends, or as the name does where the pattern ends in `*`."""
        return self.format or format_of(name if self.pattern.endswith("*") else self.pattern)

    def day_of(self, name: str) -> str | None:
        """Return the day in a file's name, None for a source without days; `ContractError` when it does not fit."""
        form = re.escape(self.pattern).replace(r"\{day\}", r"(?P<day>[^/]{10})").replace(r"\*", r"[^/]*")
        match = re.fullmatch(form, name)
        if match is None:
            raise ContractError(f"the name does not fit {self.pattern!r}; rename the file and deliver it again")
        return _calendar_day(match["day"]) if self.partitioned else None


def parse(data: bytes, contract: SourceContract, *, name: str) -> pl.DataFrame:
    """Return the file's rows with the contract's columns and types, in the contract's order.

    Raises `ContractError` for an empty, truncated or undecodable file, a missing, renamed, doubled or unknown column, and
    values that are not of the declared type. The message is the reason and the fix; it does not name the file.
    """
    table = open_table(
        decompress(data, name, most=MOST_BYTES),
        contract.format_of(name),
        contract.dialect,
        {column.name: column.dtype for column in contract.columns},
    )
    _compare_columns(table, [column.name for column in contract.columns])
    if not table.height:
        raise ContractError("the file has a header but no rows; deliver it again with its rows")
    return pl.DataFrame([_typed(table, column, contract) for column in contract.columns])


def check_day(frame: pl.DataFrame, contract: SourceContract, day: str | None) -> None:
    """Raise `ContractError` when rows belong to another day than the file's name says."""
    if day is None or not contract.day_columns:
        return
    wanted = date.fromisoformat(day)
    parts = zip(contract.day_columns, (wanted.year, wanted.month, wanted.day), strict=True)
    strangers = frame.filter(pl.any_horizontal(pl.col(name).ne_missing(value) for name, value in parts))
    if strangers.height:
        first = strangers.select(contract.day_columns).row(0)
        found = "-".join("?" if value is None else f"{value:02}" for value in first)
        raise ContractError(
            f"{strangers.height} rows are of another day than {day}, such as {found}; split them by day"
        )


def check_past(frame: pl.DataFrame, contract: SourceContract, *, now: datetime) -> None:
    """Raise `ContractError` when a column that says what has happened holds a day or time after `now`."""
    for column in contract.columns:
        if column.name not in contract.past:
            continue
        values = frame[column.name]
        future = (values > (now.date() if column.dtype == "Date" else now)).fill_null(value=False)
        if future.any():
            row = int(future.arg_true()[0])
            such = "" if column.personal else f", such as {values[row]:%Y-%m-%d %H:%M}"
            raise ContractError(
                f"column {column.name}: {future.sum()} values are in the future (now is {now:%Y-%m-%d %H:%M}){such}; "
                f"the first is in row {row + 1}; correct them, or allow a `future` in the column's declaration"
            )


def check_expected(day: str | None, contract: SourceContract, *, now: datetime) -> None:
    """Raise `ContractError` when the file's day has not begun by `now`, or lies outside the declared days."""
    if day is None:
        return
    first, _, last = (contract.days or "/").partition("/")
    if day > now.date().isoformat():
        raise ContractError(f"day {day} is in the future (now is {now:%Y-%m-%d}); correct the day in the file's name")
    if day < first or (last and day > last):
        raise ContractError(f"day {day} is outside the declared days {contract.days}; widen them or rename the file")


def _calendar_day(text: str) -> str:
    with contextlib.suppress(ValueError):
        if date.fromisoformat(text).isoformat() == text:  # not 2013-W05-4, which is a day too
            return text
    raise ContractError(f"{text!r} in the name is not a day like 2013-01-31; rename the file")


def _compare_columns(table: Table, declared: Sequence[str]) -> None:
    missing = _without(declared, table.names)
    unknown = _without(table.names, declared)
    hints = {name: _renamed(name, unknown) for name in missing[:MOST_NAMED]}
    if table.sparse:  # a column without a value is not written at all; only a renamed one is missing
        missing = [name for name in missing if hints.get(name)]
    if missing:
        named = [f"{name}{hints[name]}" for name in missing[:MOST_NAMED]]
        raise ContractError(
            f"column{'s' * (len(missing) > 1)} missing: {_some(named, len(missing))}; deliver all declared columns"
            f"{_one_column(table.names)}"
        )
    if unknown:
        named = [repr(name) for name in unknown[:MOST_NAMED]]
        raise ContractError(
            f"unknown columns [{_some(named, len(unknown))}]; declare them in the source's contract or leave them out"
            f"{_index(unknown)}"
        )


def _without(names: Sequence[str], others: Iterable[str]) -> list[str]:
    known = set(others)
    return [name for name in names if name not in known]


def _some(named: Sequence[str], count: int) -> str:
    more = [f"and {count - len(named)} more"] if count > len(named) else []
    return ", ".join([*named, *more])


def _renamed(name: str, unknown: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, unknown, n=1, cutoff=0.5)
    return f" (renamed to {close[0]}?)" if close else ""


def _one_column(names: Sequence[str]) -> str:
    """Return a hint when a header of one column looks like several."""
    other = next((mark for mark in ";,\t|" if mark in names[0]), "") if len(names) == 1 else ""
    return f", or set the source's `separator` to {other!r}: the header is {names[0]!r}" if other else ""


def _index(unknown: Sequence[str]) -> str:
    """Return a hint when pandas wrote its index as a column."""
    found = next((name for name in unknown if name in INDEX), None)
    return "" if found is None else f" ({found!r} looks like an index of pandas: write with index=False)"


def _typed(table: Table, column: ColumnContract, contract: SourceContract) -> pl.Series:
    if column.name not in table.names and table.sparse:
        return pl.Series(column.name, [None] * table.height, dtype=TYPES[column.dtype])
    typed, misfit = table.column(column.name, column.dtype, form=contract.forms.get(column.name, ""))
    if misfit:
        value = "one" if column.personal else repr(misfit.value)
        raise ContractError(
            f"column {column.name}: {misfit.count} values are not {column.dtype}, "
            f"such as {value} in {misfit.place}; {_fix(column, table)}"
        )
    return typed


def _fix(column: ColumnContract, table: Table) -> str:
    if column.dtype in ("Date", "Datetime"):
        return "correct them, or say in the column's `format` how they are written"
    if column.dtype in ("Int64", "Float64") and isinstance(table, CsvTable):
        return "correct them, or set the source's `decimal` and `thousands`"
    return "correct them"
