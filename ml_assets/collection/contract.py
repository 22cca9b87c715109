"""The contract of one table from outside, and the reader that enforces it on one delivered file."""

from __future__ import annotations

import contextlib
import difflib
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from ml_assets.quality.contract import ColumnContract

MOST_BYTES = 2**31  # a decompressed file beyond this is refused, not read
LANDED_AT = "landed_at"


class ContractError(ValueError):
    """A delivered file breaks its source's contract. The message is the reason that goes to the ledger."""


@dataclass(frozen=True, eq=False)
class SourceContract:
    """What one source delivers.

    `pattern` is the file's name in the landing zone, with `{day}` (2013-01-31) when the source is partitioned by day;
    `*` stands for anything within a name, so that a correction may have a name of its own.
    `days` is the interval of days that are expected, `2013-01-01/2013-12-31`, or open-ended, `2013-01-01/`.
    `day_columns` name the year, month and day columns whose values must agree with the file's day.
    """

    name: str
    pattern: str
    columns: Sequence[ColumnContract]
    key: Sequence[str] = ()
    null_values: Sequence[str] = ("", "NA")
    separator: str = ","
    day_columns: Sequence[str] = ()
    days: str | None = None

    @property
    def partitioned(self) -> bool:
        """Tell whether each file is one day."""
        return "{day}" in self.pattern

    @property
    def folder(self) -> str:
        """Return the folder in the landing zone that belongs to this source."""
        return self.pattern.rsplit("/", 1)[0] if "/" in self.pattern else ""

    def day_of(self, name: str) -> str | None:
        """Return the day in a file's name, None for a source without days; `ContractError` when it does not fit."""
        form = re.escape(self.pattern).replace(r"\{day\}", r"(?P<day>[^/]{10})").replace(r"\*", r"[^/]*")
        match = re.fullmatch(form, name)
        if match is None:
            raise ContractError(f"the name does not fit {self.pattern!r}; rename the file and deliver it again")
        return _calendar_day(match["day"]) if self.partitioned else None


def parse(data: bytes, contract: SourceContract, *, name: str) -> pl.DataFrame:
    """Return the file's rows with the contract's columns and types, in the contract's order.

    Raises `ContractError` for an empty, truncated or undecodable file, a missing, renamed or unknown column, and
    values that are not of the declared type.
    """
    text = _decompress(data) if name.endswith(".gz") else data
    if not text.strip():
        raise ContractError("the file is empty; deliver it again with its rows")
    frame = _read_csv(text, contract)
    _compare_columns(frame.columns, [column.name for column in contract.columns])
    if frame.is_empty():
        raise ContractError("the file has a header but no rows; deliver it again with its rows")
    return frame.select(_typed(frame[column.name], column) for column in contract.columns)


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


def _decompress(data: bytes) -> bytes:
    if not data:
        return b""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            text = file.read(MOST_BYTES + 1)
    except EOFError as error:
        raise ContractError("the gzip stream is truncated; the upload was cut off, deliver it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ContractError(f"the gzip stream is damaged ({error}); deliver it again") from error
    if len(text) > MOST_BYTES:
        raise ContractError(f"the file is larger than {MOST_BYTES} bytes decompressed; split it")
    return text


def _read_csv(text: bytes, contract: SourceContract) -> pl.DataFrame:
    try:
        return pl.read_csv(
            io.BytesIO(text),
            separator=contract.separator,
            infer_schema=False,
            null_values=list(contract.null_values),
            encoding="utf8",
        )
    except pl.exceptions.PolarsError as error:
        raise ContractError(f"not a readable CSV: {str(error).splitlines()[0]}; repair and deliver it again") from error


def _compare_columns(found: Sequence[str], declared: Sequence[str]) -> None:
    missing = [name for name in declared if name not in found]
    unknown = [name for name in found if name not in declared]
    if missing:
        hints = [_hint(name, unknown) for name in missing]
        raise ContractError(
            f"column{'s' * (len(missing) > 1)} missing: {', '.join(hints)}; deliver all declared columns"
        )
    if unknown:
        raise ContractError(f"unknown columns {unknown}; declare them in the source's contract or leave them out")


def _hint(name: str, unknown: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, unknown, n=1, cutoff=0.5)
    return f"{name} (renamed to {close[0]}?)" if close else name


def _typed(values: pl.Series, column: ColumnContract) -> pl.Series:
    wanted = _dtype(column.dtype)
    typed = _cast(values, wanted)
    wrong = typed.is_null() & values.is_not_null()
    if wrong.any():
        line = int(wrong.arg_true()[0])
        raise ContractError(
            f"column {column.name}: {wrong.sum()} values are not {column.dtype}, "
            f"such as {values[line]!r} in line {line + 2}; correct them"
        )
    return typed


def _cast(values: pl.Series, wanted: pl.DataType) -> pl.Series:
    if isinstance(wanted, pl.Datetime):
        return values.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    if wanted == pl.Date:
        return values.str.to_date("%Y-%m-%d", strict=False)
    if wanted == pl.Boolean:
        return values.str.to_lowercase().replace_strict(
            {"true": True, "false": False, "1": True, "0": False}, default=None
        )
    return values.cast(wanted, strict=False)


def _dtype(name: str) -> pl.DataType:
    return pl.Datetime("us", "UTC") if name == "Datetime" else getattr(pl, name)()
