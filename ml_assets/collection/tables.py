"""What a delivered file holds, in any format: the names of its columns, and each column as its declared type."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from ml_assets.collection.formats import (
    MOST_BYTES,
    ContractError,
    Dialect,
    Format,
    csv_rows,
    decode,
    line_of,
)
from ml_assets.collection.values import IN_JSON, TYPES, days, from_numbers, from_text, moments, quickly, without_nan

LINES_AT_ONCE = 20_000  # JSON lines held as Python objects


@dataclass(frozen=True)
class Misfit:
    """Values of a column that are not of its type: how many, and the first one with its place, such as `line 7`."""

    count: int
    value: Any
    place: str


class Table(ABC):
    """One delivered file. `names` are its columns, `height` its rows; in a `sparse` one, columns without a value are absent."""

    names: Sequence[str]
    height: int
    sparse: bool = False

    @abstractmethod
    def column(self, name: str, dtype: str, *, form: str = "") -> tuple[pl.Series, Misfit | None]:
        """Return a column as `dtype`, null where values do not fit, and which those are.

        `form` is how text writes days and times (`strftime`). Raises `ContractError` when the whole column is of another kind.
        """

    @abstractmethod
    def place(self, row: int) -> str:
        """Return where a row (from 0) stands, in words for people."""

    def misfit(self, values: pl.Series, typed: pl.Series, shown: pl.Series | None = None) -> Misfit | None:
        """Return what was lost between a column's values and its typed ones; `shown` are the values as people know them."""
        if typed.null_count() == values.null_count():
            return None
        wrong = typed.is_null() & values.is_not_null()
        row = int(wrong.arg_true()[0])
        value = values[row] if shown is None or shown[row] is None else shown[row]
        return Misfit(int(wrong.sum()), value, self.place(row))


def open_table(data: bytes, kind: Format, dialect: Dialect, types: Mapping[str, str]) -> Table:
    """Return the table in a decompressed file; `types` are the declared columns.

    Raises `ContractError` for a file without rows or a header, and for one that is not of this format.
    """
    if kind == "parquet":
        return ParquetTable(_not_empty(data))
    text = _not_empty(decode(data, encoding=dialect.encoding))
    return CsvTable(text, dialect, types) if kind == "csv" else JsonTable(text, dialect, types)


def _not_empty(data: bytes) -> bytes:
    if not data or data.isspace():
        raise ContractError("the file is empty; deliver it again with its rows")
    return data


class CsvTable(Table):
    """A CSV with a header, in the source's dialect."""

    def __init__(self, text: bytes, dialect: Dialect, types: Mapping[str, str]) -> None:
        """Read all columns as text; `text` is UTF-8. Columns of plain numbers, as in `types`, are converted at once."""
        self._text, self._dialect, self._types = text, dialect, types
        self._frame = csv_rows(text, dialect)
        self._quick = quickly(self._frame, types, dialect)
        self.names, self.height = self._frame.columns, self._frame.height

    def column(self, name: str, dtype: str, *, form: str = "") -> tuple[pl.Series, Misfit | None]:
        """Return the column's text as `dtype`."""
        if name in self._quick and self._types[name] == dtype:
            return self._quick[name], None
        values = self._frame[name]
        typed = from_text(values, dtype, self._dialect, form=form)
        return without_nan(typed), self.misfit(values, typed)

    def place(self, row: int) -> str:
        """Return the line where the row begins; the header is line 1."""
        return line_of(self._text, self._dialect, row)


class JsonTable(Table):
    """JSON lines: one object a line. A key that a line does not have is null; empty lines are skipped."""

    sparse = True

    def __init__(self, text: bytes, dialect: Dialect, types: Mapping[str, str]) -> None:
        """Read all lines (UTF-8), some at a time; values of columns in `types` are kept, with those that do not fit."""
        self._dialect, self._types = dialect, types
        self._lines: list[int] = []
        self._wrong: dict[str, list[tuple[int, Any]]] = {}
        names: dict[str, None] = {}
        parts = [self._part(rows, names) for rows in _in_parts(_objects(text))]
        self._frame = pl.concat(parts) if parts else pl.DataFrame(schema=self._held)
        self.names, self.height = list(names), len(self._lines)

    @property
    def _held(self) -> dict[str, pl.DataType]:
        return {name: IN_JSON[dtype][2] for name, dtype in self._types.items()}

    def _part(self, rows: Sequence[tuple[int, dict[str, Any]]], names: dict[str, None]) -> pl.DataFrame:
        for _, row in rows:
            names.update(dict.fromkeys(row))
        frame = pl.DataFrame([self._values(rows, name) for name in self._types])
        self._lines += [line for line, _ in rows]
        return frame

    def _values(self, rows: Sequence[tuple[int, dict[str, Any]]], name: str) -> pl.Series:
        fits, held, dtype = IN_JSON[self._types[name]]
        values = [row.get(name) for _, row in rows]
        if (quick := _of_one_kind(name, values, held, dtype)) is not None:
            return quick
        wrong = [at for at, value in enumerate(values) if value is not None and not fits(value)]
        for at in wrong:
            self._wrong.setdefault(name, []).append((rows[at][0], values[at]))
            values[at] = None
        return pl.Series(name, [None if value is None else held(value) for value in values], dtype=dtype)

    def column(self, name: str, dtype: str, *, form: str = "") -> tuple[pl.Series, Misfit | None]:
        """Return the column; days and times are text in JSON. Objects and lists are refused."""
        values, wrong = self._frame[name], self._wrong.get(name, [])
        if nested := next((line for line, value in wrong if isinstance(value, dict | list)), None):
            raise _nested(name, f"line {nested}")
        if wrong:
            return values, Misfit(len(wrong), wrong[0][1], f"line {wrong[0][0]}")
        if dtype not in ("Date", "Datetime"):
            return values, None
        typed = from_text(values, dtype, self._dialect, form=form)
        return typed, self.misfit(values, typed)

    def place(self, row: int) -> str:
        """Return the line of a row."""
        return f"line {self._lines[row]}"


def _of_one_kind(name: str, values: Sequence[Any], kind: type, dtype: pl.DataType) -> pl.Series | None:
    """Return values that are all of one Python type, or null, the quick way; None where each must be looked at."""
    if not set(map(type, values)) <= {kind, type(None)}:
        return None
    try:
        found = pl.Series(name, values, dtype=dtype)
    except (OverflowError, TypeError, UnicodeError, pl.exceptions.PolarsError):
        return None
    return None if dtype == pl.Float64 and found.is_infinite().any() else found


def _objects(text: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line that is not empty, and its object."""
    for number, line in enumerate(text.decode().split("\n"), start=1):
        if line and not line.isspace():
            yield number, _object(line, number)


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"line {number} is not JSON: {error}; write one object in each line") from error
    if not isinstance(found, dict):
        raise ContractError(f"line {number} is JSON but no object; write one object in each line")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {[name for name in found if names.count(name) > 1]} more than once")
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON, null stands for what is unknown")


def _in_parts(rows: Iterable[Any]) -> Iterator[list[Any]]:
    part = []
    for row in rows:
        part.append(row)
        if len(part) == LINES_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _nested(name: str, where: str) -> ContractError:
    return ContractError(f"column {name}: {where} holds nested values; flatten it, one plain value for each column")


# Which kinds of Arrow types a declared type takes.
KINDS = {
    "Int64": ("whole numbers", "numbers", "decimals"),
    "Float64": ("whole numbers", "numbers", "decimals"),
    "String": ("text",),
    "Boolean": ("booleans",),
    "Date": ("days", "times"),
    "Datetime": ("days", "times"),
}


class ParquetTable(Table):
    """A Parquet file. PyArrow reads it: on damaged files Polars can panic, which is no ordinary error."""

    def __init__(self, data: bytes) -> None:
        """Read the schema; the rows are read with the first column that is asked for."""
        import pyarrow as pa
        from pyarrow import parquet

        with _readable():
            self._file = parquet.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
            self._schema = self._file.schema_arrow
        self.names, self.height = self._schema.names, self._file.metadata.num_rows
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ContractError(f"columns {twice} appear more than once; rename or drop all but one of each")
        _bounded(self._file)
        _bounded_text(data, self._file)

    def column(self, name: str, dtype: str, *, form: str = "") -> tuple[pl.Series, Misfit | None]:
        """Return the column as `dtype`; a column of another kind than declared, and a nested one, are refused."""
        kind = _kind(self._schema.field(name).type)
        if kind == "nested":
            raise _nested(name, f"{self._schema.field(name).type}")
        if kind != "nulls" and kind not in KINDS[dtype]:
            raise ContractError(
                f"column {name}: it holds {kind}, and {dtype} is declared; deliver it as {dtype} or change the declaration"
            )
        if kind in ("days", "times"):
            return self._in_time(name, kind, dtype)
        values = self._values(name, kind)
        typed = from_numbers(values, dtype) if dtype in ("Int64", "Float64") else values.cast(TYPES[dtype])
        return without_nan(typed), self.misfit(values, typed)

    def _in_time(self, name: str, kind: str, dtype: str) -> tuple[pl.Series, Misfit | None]:
        """Return days or times; the zone does not matter: what is stored is UTC, and times without a zone are UTC."""
        import pyarrow as pa

        with _readable():
            column = self._column(name)
            column = column if kind == "times" else column.cast(pa.date64())
            counts = pl.Series(name, pl.from_arrow(column.cast(pa.int64())))
        found = moments(counts, column.type.unit if kind == "times" else "ms")
        typed = found if dtype == "Datetime" else days(found)
        return typed, self.misfit(counts, typed, found)

    def place(self, row: int) -> str:
        """Return the number of the row, from 1."""
        return f"row {row + 1}"

    @cached_property
    def _rows(self) -> Any:
        with _readable():
            return self._file.read()

    def _column(self, name: str) -> Any:
        """Return a column of Arrow, without a dictionary; Polars takes on trust that text is UTF-8."""
        from pyarrow import types

        column = self._rows.column(name)
        column.validate(full=True)
        return column.cast(column.type.value_type) if types.is_dictionary(column.type) else column

    def _values(self, name: str, kind: str) -> pl.Series:
        """Return a column in a type that Polars knows."""
        import pyarrow as pa

        with _readable():
            column = self._column(name)
            if kind == "numbers" or pa.types.is_decimal256(column.type):
                column = column.cast(pa.float64())
            if kind == "text":
                column = column.cast(pa.large_string())
            return pl.Series(name, pl.from_arrow(column))


def _kind(arrow: Any) -> str:
    """Return in words what an Arrow type holds."""
    from pyarrow import types

    if types.is_dictionary(arrow):
        return _kind(arrow.value_type)
    tests = {
        "nested": types.is_nested,
        "nulls": types.is_null,
        "booleans": types.is_boolean,
        "whole numbers": types.is_integer,
        "numbers": types.is_floating,
        "decimals": types.is_decimal,
        "days": types.is_date,
        "times": types.is_timestamp,
        "text": lambda found: types.is_string(found) or types.is_large_string(found) or types.is_string_view(found),
    }
    return next((kind for kind, test in tests.items() if test(arrow)), str(arrow))


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Give the reason of what PyArrow cannot read."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ContractError(
            f"not a readable Parquet file, truncated or damaged: {reason}; write and deliver it again"
        ) from error


def _bounded(file: Any) -> None:
    """Refuse a file that would fill the memory: by what it says of itself, and by at least eight bytes for each value."""
    told = values = 0
    for number in range(len(file.schema)):
        parts = _parts(file, number)
        told += sum(part.total_uncompressed_size for part in parts)
        values += sum(part.num_values for part in parts) * max(8, file.schema.column(number).length)
    _refuse_beyond(max(told, values))


def _bounded_text(data: bytes, file: Any) -> None:
    """Refuse text that repeats until it fills the memory: a file of 300 bytes can hold a million long values, all the same.

    It is stored once, in a dictionary, and read so here. Only columns that may be too large at all are looked at.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet

    columns = range(len(file.schema))
    wide = [file.schema.column(number).path for number in columns if _most_text(_parts(file, number)) > MOST_BYTES]
    if not wide:
        return
    with _readable():
        table = parquet.ParquetFile(pa.BufferReader(data), read_dictionary=wide).read(columns=wide)
        total = 0
        for part in (part for column in table.columns for part in column.chunks if pa.types.is_dictionary(part.type)):
            lengths = pc.cast(pc.binary_length(part.dictionary), pa.int64())
            total += pc.sum(lengths.take(part.indices)).as_py() or 0
    _refuse_beyond(total)


def _parts(file: Any, number: int) -> list[Any]:
    """Return what the file says of one column in each group of rows."""
    return [file.metadata.row_group(group).column(number) for group in range(file.metadata.num_row_groups)]


def _most_text(parts: Sequence[Any]) -> int:
    """Return how many bytes the texts of a column can have at most: each as long as all that is stored; 0 for other columns."""
    return sum(part.num_values * part.total_uncompressed_size for part in parts if part.physical_type == "BYTE_ARRAY")


def _refuse_beyond(size: int) -> None:
    if size > MOST_BYTES:
        raise ContractError(f"the file is larger than {MOST_BYTES} bytes decompressed; split it")
