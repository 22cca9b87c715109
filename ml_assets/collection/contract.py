"""The contract of one table from outside, and the reader that enforces it on one delivered file."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from functools import partial
from typing import Any, Literal

import polars as pl

from ml_assets.collection.formats import MOST_BYTES, ContractError, Dialect, Format, decompress, format_of
from ml_assets.collection.tables import CsvTable, Table, open_table
from ml_assets.collection.values import TYPES, from_text
from ml_assets.quality.contract import ColumnContract

LANDED_AT = "landed_at"
MOST_NAMED = 10  # columns in one message
INDEX = ("", "__index_level_0__", "Unnamed: 0")
Policy = Literal["refuse", "quarantine", "accept"]


class RefusedError(ContractError):
    """A file's schema changed in a way that its source refuses: the run fails, and the file waits for a person."""


@dataclass(frozen=True)
class SchemaChanges:
    """What becomes of a file whose columns are not those of the contract.

    `quarantine`: it goes there whole. `refuse`: the run fails, nothing is decided, the file waits. `accept`, with a note:
    a new column is left out; a missing one is null, where any share of nulls is allowed; text in the place of another
    type is taken when every value of the column is one of the declared type. What would be lost or would change the
    table's type (decimals in whole numbers, a renamed column) goes to quarantine nevertheless.
    """

    new_column: Policy = "quarantine"
    missing_column: Policy = "quarantine"
    widened_type: Policy = "quarantine"


@dataclass(frozen=True)
class Parsed:
    """The rows of a file, with the contract's columns and types, and how the file differs from it (empty: it does not)."""

    rows: pl.DataFrame
    note: str = ""


@dataclass(frozen=True, eq=False)
class SourceContract:
    """What one source delivers.

    `pattern` is the file's name in the landing zone, with `{day}` (2013-01-31) when the source is partitioned by day;
    `*` stands for anything within a name, so that a correction may have a name of its own.
    `days` is the interval of days that are expected, `2013-01-01/2013-12-31`, or open-ended, `2013-01-01/`.
    `day_columns` name the year, month and day columns whose values must agree with the file's day.
    `format` is that of the files; None: as the pattern ends. From `null_values` to `false_values` they are as in `Dialect`.
    `past` are columns of days and times that say what has happened: none may lie after the moment of collecting.
    `schema_changes` says what becomes of a file with other columns.
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
    schema_changes: SchemaChanges = SchemaChanges()

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
    """Return the rows that `read_file` finds."""
    return read_file(data, contract, name=name).rows


def read_file(data: bytes, contract: SourceContract, *, name: str) -> Parsed:
    """Return the file's rows with the contract's columns and types, in the contract's order.

    Raises `ContractError` for an empty, truncated or undecodable file, a missing, renamed, doubled or unknown column, and
    values that are not of the declared type; `RefusedError` where the source refuses such a change of the schema. The
    message is the reason and the fix; it does not name the file.
    """
    types = {column.name: column.dtype for column in contract.columns}
    opened = partial(open_table, decompress(data, name, most=MOST_BYTES), contract.format_of(name), contract.dialect)
    table = opened(types)
    notes = _compare_columns(table, contract)
    if not table.height:
        raise ContractError("the file has a header but no rows; deliver it again with its rows")
    found = [_column(table, column, contract, lambda other: opened(types | other)) for column in contract.columns]
    notes += [note for _, note in found if note]
    return Parsed(pl.DataFrame([values for values, _ in found]), "; ".join(notes))


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


def _compare_columns(table: Table, contract: SourceContract) -> list[str]:
    """Return in words which columns are not there, and which are there beside them, where that is accepted."""
    declared = [column.name for column in contract.columns]
    missing, unknown = _without(declared, table.names), _without(table.names, declared)
    hints = {name: _renamed(name, unknown) for name in missing[:MOST_NAMED]}
    if table.sparse:  # a column without a value is not written at all; only a renamed one is missing
        missing = [name for name in missing if hints.get(name)]
    return [*_missing(missing, hints, table, contract), *_unknown(unknown, contract.schema_changes.new_column)]


def _missing(missing: Sequence[str], hints: Mapping[str, str], table: Table, contract: SourceContract) -> list[str]:
    if not missing:
        return []
    named = _some([f"{name}{hints[name]}" for name in missing[:MOST_NAMED]], len(missing))
    policy = contract.schema_changes.missing_column
    needed = {column.name for column in contract.columns if column.nullable is not True}
    if policy == "accept" and (needed & set(missing) or any(hints.values())):
        policy = "quarantine"
    reason = (
        f"column{'s' * (len(missing) > 1)} missing: {named}; deliver all declared columns{_one_column(table.names)}"
    )
    return _by_policy(policy, reason, f"without {named}, which {'are' if len(missing) > 1 else 'is'} null")


def _unknown(unknown: Sequence[str], policy: Policy) -> list[str]:
    if not unknown:
        return []
    named = _some([repr(name) for name in unknown[:MOST_NAMED]], len(unknown))
    reason = f"unknown columns [{named}]; declare them in the source's contract or leave them out{_index(unknown)}"
    return _by_policy(policy, reason, f"unknown columns [{named}] are left out")


def _by_policy(policy: Policy, reason: str, note: str) -> list[str]:
    """Return the note on a change that is accepted; else raise the reason."""
    if policy == "accept":
        return [note]
    raise RefusedError(reason) if policy == "refuse" else ContractError(reason)


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


def _column(table: Table, column: ColumnContract, contract: SourceContract, opened: Any) -> tuple[pl.Series, str]:
    """Return a column and a note on it; `opened` opens the file again with other types of some columns."""
    try:
        return _typed(table, column, contract), ""
    except ContractError as error:
        policy = contract.schema_changes.widened_type
        wider = _wider(column, opened) if policy != "quarantine" else None
        if wider is None:
            raise
        if policy == "refuse":
            raise RefusedError(f"{error} (the whole column is {wider.dtype})") from error
        typed = _narrowed(wider, column, contract)
        if typed is None:
            raise
        return typed, f"column {column.name}: text is taken as {column.dtype}"


def _wider(column: ColumnContract, opened: Any) -> pl.Series | None:
    """Return a column in the next type that holds each of its values: decimals for whole numbers, else text."""
    for dtype in ("Float64", "String") if column.dtype == "Int64" else ("String",):
        table = opened({column.name: dtype})
        if dtype == "String" and isinstance(table, CsvTable):
            return None  # where all is text, it says nothing
        with contextlib.suppress(ContractError):
            values, misfit = table.column(column.name, dtype)
            if misfit is None:
                return pl.Series(values)
    return None


def _narrowed(wider: pl.Series, column: ColumnContract, contract: SourceContract) -> pl.Series | None:
    """Return text as the declared type; None when a value would be lost."""
    if wider.dtype != pl.String:
        return None
    typed = from_text(wider, column.dtype, contract.dialect, form=contract.forms.get(column.name, ""))
    return typed if typed.null_count() == wider.null_count() else None


def _typed(table: Table, column: ColumnContract, contract: SourceContract) -> pl.Series:
    if column.name not in table.names:  # accepted
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
