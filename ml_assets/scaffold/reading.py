"""Read what a person has: one file or several of one shape, from a path, a glob or a URL, in whatever dialect.

Rows are read by the functions with which a `Source` reads its deliveries, so that what is found here holds there.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl

from ml_assets.collection.formats import MOST_BYTES, ContractError, Dialect, Format, csv_rows, decode, decompress
from ml_assets.collection.tables import JsonTable
from ml_assets.scaffold.dialect import NULLS, encoding_of, numbers_of, separator_of
from ml_assets.scaffold.errors import ScaffoldError

MARKS_OF_COMPRESSION = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst"}
ENDINGS: dict[Format, str] = {"csv": "csv", "parquet": "parquet", "jsonl": "jsonl"}
NOT_TABLES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"<": "a web page or XML",
    b"ARROW1": "an Arrow file",
}
FETCH_SECONDS = 60


@dataclass(frozen=True)
class File:
    """One file as it was found: its name without folders, and its bytes, still compressed."""

    name: str
    data: bytes

    @property
    def compression(self) -> str:
        """Return gz, zst or nothing; the bytes tell, not the name."""
        return next((kind for mark, kind in MARKS_OF_COMPRESSION.items() if self.data.startswith(mark)), "")

    def content(self) -> bytes:
        """Return the bytes without compression; `ScaffoldError` for a broken stream or more than 2 GiB."""
        try:
            return decompress(self.data, f"x.{self.compression}", most=MOST_BYTES)
        except ContractError as error:
            raise ScaffoldError(f"{self.name}: {error}") from error


@dataclass(frozen=True, eq=False)
class Table:
    """What was read: the files in order, how they are written, and all their rows.

    The `frame` has the file's column names. Of CSV all columns are text and the null spellings are null; Parquet and
    JSON lines keep their types. `rows` are those of each file. `given` is what the person wrote.
    """

    files: tuple[File, ...]
    format: Format
    dialect: Dialect
    frame: pl.DataFrame
    rows: tuple[int, ...]
    given: str
    padded: bool = False

    @property
    def compression(self) -> str:
        """Return gz, zst or nothing."""
        return self.files[0].compression

    @property
    def ending(self) -> str:
        """Return how the landed file's name ends, such as csv.gz."""
        return f"{ENDINGS[self.format]}.{self.compression}".rstrip(".")

    def where(self, row: int) -> str:
        """Return the place of a row of the frame (from 0): file, if there are several, and line (fields may span lines)."""
        for file, count in zip(self.files, self.rows, strict=True):
            if row < count:
                line = f"line {row + 1 + (self.format == 'csv')}" if self.format != "parquet" else f"row {row + 1}"
                return f"{file.name} {line}" if len(self.files) > 1 else line
            row -= count
        raise IndexError(row)

    def delivery(self) -> bytes:
        """Return the bytes that land: the file as it was delivered, or several files as one."""
        if len(self.files) == 1:
            return self.files[0].data
        parts = [file.content() for file in self.files]
        merged = {"csv": self._csv, "jsonl": _lines, "parquet": self._parquet}[self.format](parts)
        return gzip.compress(merged, mtime=0) if self.compression == "gz" else merged

    def _csv(self, parts: Sequence[bytes]) -> bytes:
        texts = [decode(part, encoding=self.dialect.encoding) for part in parts]
        bodies = [text[_header_bytes(text, self.dialect) :] for text in texts[1:]]
        return _lines([texts[0], *bodies]).decode().encode(self.dialect.encoding)

    def _parquet(self, parts: Sequence[bytes]) -> bytes:
        target = io.BytesIO()
        self.frame.write_parquet(target)
        return target.getvalue()


def read(data: str) -> Table:
    """Read a path, a glob of files of one shape, or a URL (http, https, gs, s3 and what else fsspec knows).

    Raises `ScaffoldError` for what is not there, empty, no table, without rows, or of several shapes.
    """
    files = _remote(data) if "://" in data else _local(data)
    tables = [_table(file, data, tables_like=None) for file in files[:1]]
    tables += [_table(file, data, tables_like=tables[0]) for file in files[1:]]
    _refuse_shapes(tables)
    first = tables[0]
    frame = pl.concat([table.frame for table in tables], how="vertical_relaxed") if len(tables) > 1 else first.frame
    dialect = first.dialect
    if first.format == "csv":
        dialect, frame = _with_nulls(dialect, frame)
        dialect = _with_numbers(dialect, frame)
    rows = tuple(table.frame.height for table in tables)
    padded = _padded(frame, first.format)
    if padded and (dialect.decimal, dialect.thousands) != (".", ""):
        raise ScaffoldError(
            f"{files[0].name} has blanks after its separators and marks in its numbers; take away the blanks"
        )
    return Table(tuple(files), first.format, dialect, frame, rows, data, padded)


# -- bytes -------------------------------------------------------------------------------------------------------------


def _local(data: str) -> list[File]:
    path = Path(data).expanduser()
    if path.is_dir():
        raise ScaffoldError(f"--data {data!r} is a folder; write the files, such as '{data.rstrip('/')}/*.csv'")
    names = [str(path)] if path.is_file() else sorted(filter(os.path.isfile, glob.glob(str(path), recursive=True)))
    if not names:
        raise ScaffoldError(f"--data {data!r}: there is no such file in {Path.cwd()}; correct the path")
    try:
        return [_file(name, Path(name).stat().st_size, Path(name).read_bytes) for name in names]
    except OSError as error:
        raise ScaffoldError(f"--data {data!r} cannot be read: {error}") from error


def _file(name: str, size: int, read_all: Callable[[], bytes]) -> File:
    if size > MOST_BYTES:
        raise ScaffoldError(f"{name} has {size:,} bytes, more than {MOST_BYTES:,}: split it, or take a sample")
    return File(Path(name).name, read_all())


def _remote(data: str) -> list[File]:
    import fsspec
    from aiohttp import ClientError, ClientTimeout

    web = data.startswith(("http://", "https://"))
    options = {"client_kwargs": {"timeout": ClientTimeout(total=FETCH_SECONDS)}} if web else {}
    try:
        system, path = fsspec.core.url_to_fs(data, **options)
        paths = sorted(system.glob(path)) if "*" in path and not web else [path]
        files = list(_fetched(system, paths))
    except (OSError, ClientError, ImportError, ValueError) as error:
        told = str(error) or type(error).__name__
        raise ScaffoldError(
            f"--data {data!r} cannot be fetched: {told}; correct the URL, or fetch it yourself"
        ) from error
    if not files:
        raise ScaffoldError(f"--data {data!r}: there is no such file; correct the URL")
    return files


def _fetched(system: object, paths: Sequence[str]) -> Iterator[File]:
    for path in paths:
        with system.open(path, "rb") as source:  # type: ignore[attr-defined]
            content = source.read(MOST_BYTES + 1)
        name = Path(urlsplit(path).path).name or "table"
        yield _file(name, len(content), lambda content=content: content)  # type: ignore[misc]


# -- one file ----------------------------------------------------------------------------------------------------------


def _table(file: File, given: str, *, tables_like: Table | None) -> Table:
    """Read one file; in the dialect of the first one, if there is one already."""
    content = file.content()
    if not content.strip():
        raise ScaffoldError(f"{file.name} is empty; give a file with a header and rows")
    kind = tables_like.format if tables_like else _format(file.name, content)
    if kind == "parquet":
        return Table((file,), kind, Dialect(), _parquet(file.name, content), (), given)
    encoding = tables_like.dialect.encoding if tables_like else encoding_of(content)
    try:
        text = decode(content, encoding=encoding)
        if kind == "jsonl":
            return Table((file,), kind, Dialect(encoding=encoding), _jsonl(file.name, text, encoding), (), given)
        dialect = tables_like.dialect if tables_like else _dialect(file.name, text, encoding)
        return Table((file,), kind, dialect, _csv(file.name, text, dialect), (), given)
    except ContractError as error:
        raise ScaffoldError(f"{file.name}: {error}") from error


def _format(name: str, content: bytes) -> Format:
    """Return the format that the bytes show; names may tell anything."""
    start = content[:2000].lstrip(b"\xef\xbb\xbf \t\r\n")
    if content.startswith(b"PAR1"):
        return "parquet"
    for mark, what in NOT_TABLES.items():
        if start.startswith(mark):
            raise ScaffoldError(f"{name} is {what}, no table; save it as CSV, Parquet or JSON lines")
    if start.startswith(b"["):
        raise ScaffoldError(f"{name} is one JSON list; write one object on each line (JSON lines)")
    return "jsonl" if start.startswith(b"{") else "csv"


def _dialect(name: str, text: bytes, encoding: str) -> Dialect:
    separator, quote = separator_of(text.decode(), name)
    return Dialect(separator=separator, quote=quote, encoding=encoding, null_values=("",))


def _csv(name: str, text: bytes, dialect: Dialect) -> pl.DataFrame:
    frame = csv_rows(text, dialect)
    _refuse_header(name, frame.columns)
    return _with_rows(name, frame)


def _refuse_header(name: str, header: Sequence[str]) -> None:
    if nameless := [number for number, title in enumerate(header, start=1) if not title.strip()]:
        raise ScaffoldError(
            f"{name}: column {nameless[0]} has no name in the header; name it in the first line, "
            "or leave it out (pandas: to_csv(…, index=False))"
        )
    if all(_is_value(title) for title in header):
        raise ScaffoldError(f"{name}: the first line is {', '.join(header[:5])}: values, not names; add a header line")


def _is_value(text: str) -> bool:
    return text.strip().replace(".", "", 1).replace(",", "", 1).lstrip("-").isdigit()


def _with_rows(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    if not frame.height:
        raise ScaffoldError(f"{name} has a header but no rows; give a file with rows")
    nested = [column for column, dtype in frame.schema.items() if dtype.is_nested() or dtype == pl.Object]
    if nested:
        raise ScaffoldError(f"{name}: columns {nested} hold lists or objects; write each part as a column of its own")
    return frame


def _parquet(name: str, content: bytes) -> pl.DataFrame:
    """Read with PyArrow, as the `Source` does: on damaged files Polars can panic."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = pl.from_arrow(parquet.read_table(pa.BufferReader(content)))
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ScaffoldError(f"{name} is no readable Parquet file ({reason}); write or fetch it again") from error
    assert isinstance(found, pl.DataFrame)
    return _with_rows(name, found)


def _jsonl(name: str, text: bytes, encoding: str) -> pl.DataFrame:
    JsonTable(text, Dialect(encoding=encoding), {})  # refuses by line what is no object
    try:
        return _with_rows(name, pl.read_ndjson(io.BytesIO(text), infer_schema_length=None))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise ScaffoldError(f"{name}: not readable as JSON lines ({reason}); give each column one type") from error


# -- all files ---------------------------------------------------------------------------------------------------------


def _refuse_shapes(tables: Sequence[Table]) -> None:
    first = tables[0]
    for table in tables[1:]:
        if table.compression != first.compression:
            raise ScaffoldError(f"{table.files[0].name} and {first.files[0].name} are not compressed alike; make them")
        if table.frame.columns != first.frame.columns:
            strange = [name for name in table.frame.columns if name not in first.frame.columns]
            missing = [name for name in first.frame.columns if name not in table.frame.columns]
            raise ScaffoldError(
                f"{table.files[0].name} has other columns than {first.files[0].name}: besides {strange}, without {missing}; "
                "give files of one shape, columns in one order"
            )


def _with_nulls(dialect: Dialect, frame: pl.DataFrame) -> tuple[Dialect, pl.DataFrame]:
    """Find the null spellings that are there, with the blanks around them, and make them null."""
    spelled = [f"{before}{word}" for word in NULLS if word for before in ("", " ")]
    there = frame.select(
        pl.any_horizontal(pl.all().eq(word).any()).alias(str(number)) for number, word in enumerate(spelled)
    ).row(0)
    found = [word for word, seen in zip(spelled, there, strict=True) if seen]
    nulled = frame.with_columns(pl.when(~pl.all().is_in(found)).then(pl.all())) if found else frame
    return replace(dialect, null_values=("", *found)), nulled


def _with_numbers(dialect: Dialect, frame: pl.DataFrame) -> Dialect:
    decimal, thousands = numbers_of(frame, dialect.separator)
    return replace(dialect, decimal=decimal, thousands=thousands)


def _padded(frame: pl.DataFrame, kind: Format) -> bool:
    """Tell whether blanks follow the separators: then most columns begin with one in every row."""
    if kind != "csv":
        return False
    blank = frame.head(1000).select((pl.all().str.starts_with(" ") | pl.all().is_null()).all()).row(0)
    return sum(blank[1:]) > (len(blank) - 1) / 2


def _header_bytes(text: bytes, dialect: Dialect) -> int:
    """Return the length of the header with its line end; a name in quotes may have one within."""
    lines = text.splitlines(keepends=True)
    reader = csv.reader((line.decode() for line in lines), delimiter=dialect.separator, quotechar=dialect.quote or None)
    next(reader)
    return sum(len(line) for line in lines[: reader.line_num])


def _lines(parts: Sequence[bytes]) -> bytes:
    return b"".join(part if part.endswith(b"\n") else part + b"\n" for part in parts)
