"""From the bytes of a delivered file to rows of text: compression, encoding, and CSV of any dialect."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

MOST_BYTES = 2**31  # a decompressed file beyond this is refused, not read
Format = Literal["csv", "parquet", "jsonl"]
ENDINGS: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class ContractError(ValueError):
    """A delivered file breaks its source's contract. The message is the reason that goes to the ledger."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a source writes text: CSV's separator and quotes, the encoding, numbers, booleans and nulls.

    `quote` is one character, or empty when nothing is quoted. `thousands` is the mark between groups of three digits, or
    empty; a space also stands for the no-break spaces, an apostrophe also for the typographic one.
    Words for booleans count in any case.
    """

    separator: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""
    null_values: Sequence[str] = ("", "NA")
    true_values: Sequence[str] = ("true", "1", "yes", "t", "y")
    false_values: Sequence[str] = ("false", "0", "no", "f", "n")


def format_of(name: str) -> Format:
    """Return the format that a file's name or a pattern ends in, whatever its compression; `csv` when it tells nothing."""
    plain = name.lower()
    for ending in COMPRESSIONS:
        plain = plain.removesuffix(ending)
    return next((kind for ending, kind in ENDINGS.items() if plain.endswith(ending)), "csv")


def decompress(data: bytes, name: str, *, most: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file as they were before compression, which the ending of its name tells: `.gz` or `.zst`.

    Raises `ContractError` for a truncated or damaged stream, and for more than `most` bytes, which are not unpacked.
    """
    kind = next((kind for ending, kind in COMPRESSIONS.items() if name.lower().endswith(ending)), "")
    if not data or not kind:
        return data
    unpacked = _gunzip(data, most + 1) if kind == "gzip" else _unzstd(data, most + 1)
    if len(unpacked) > most:
        raise ContractError(f"the file is larger than {most} bytes decompressed; split it")
    return unpacked


def decode(data: bytes, *, encoding: str = "utf-8") -> bytes:
    """Return text in any encoding as UTF-8, without a byte order mark. A UTF-8 mark counts more than `encoding`.

    Raises `ContractError` that names line and byte (both from 1) of what is not in this encoding.
    """
    if data.startswith(codecs.BOM_UTF8):
        data, encoding = data[len(codecs.BOM_UTF8) :], "utf-8"
    try:
        text = data.decode(encoding)
        same = codecs.lookup(encoding).name == "utf-8"
        return data if same else text.removeprefix("\ufeff").encode()
    except UnicodeError as error:
        raise ContractError(_undecodable(data, encoding, error)) from error


def csv_rows(text: bytes, dialect: Dialect) -> pl.DataFrame:
    """Return all rows of a CSV (UTF-8, see `decode`), each column as text under the name in the header.

    Null values are null, empty lines are skipped (in a table of one column they are nulls). Raises `ContractError` for
    names that appear twice, for rows with more or fewer fields than the header, by line, and for what is no CSV.
    """
    text = _with_newlines(text)
    header = _header(text, dialect)
    twice = sorted({name for name in header if header.count(name) > 1}) if len(set(header)) < len(header) else []
    if twice:
        raise ContractError(f"columns {twice} appear more than once in the header; rename or drop all but one of each")
    if len(header) > 1:
        text = text.rstrip(b"\r\n")  # empty lines at the end are no rows
    frame = _read(text, dialect)
    if frame.width != len(header):
        raise ContractError("not a readable CSV: its header has stray quotes; repair and deliver it again")
    frame.columns = header  # Polars leaves doubled quotes in names as they are
    return _without_gaps(frame, text, dialect) if _has_gaps(frame, text, dialect) else frame


def line_of(text: bytes, dialect: Dialect, row: int) -> str:
    """Return where a row of `csv_rows` (from 0) begins in the file, such as `line 7`; only errors need it: it is slow."""
    for number, (line, _) in enumerate(_records(_with_newlines(text), dialect)):
        if number == row + 1:
            return f"line {line}"
    return f"row {row + 1}"


# -- compression -----------------------------------------------------------------------------------------------------------


def _gunzip(data: bytes, most: int) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            return file.read(most)
    except EOFError as error:
        raise _cut_off("gzip") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _damaged("gzip", error) from error


def _unzstd(data: bytes, most: int) -> bytes:
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as file:
            return file.read(most)
    except OSError as error:
        raise (_cut_off("zstd") if "Truncated" in str(error) else _damaged("zstd", error)) from error


def _cut_off(kind: str) -> ContractError:
    return ContractError(f"the {kind} stream is truncated; the upload was cut off, deliver it again")


def _damaged(kind: str, error: Exception) -> ContractError:
    return ContractError(f"the {kind} stream is damaged ({error}); deliver it again")


# -- encoding --------------------------------------------------------------------------------------------------------------


def _undecodable(data: bytes, encoding: str, error: UnicodeError) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and "16" not in encoding:
        return f"not readable as {encoding}: the file begins like utf-16; set the source's `encoding` to utf-16"
    where = ""
    if isinstance(error, UnicodeDecodeError):
        before = data[: error.start].decode(encoding, errors="ignore")
        where = f" in line {before.count(chr(10)) + 1}, byte {error.start + 1} (0x{data[error.start]:02x})"
    return f"not readable text: invalid {encoding}{where}; set the source's `encoding`, or repair and deliver it again"


# -- CSV -------------------------------------------------------------------------------------------------------------------


def _with_newlines(text: bytes) -> bytes:
    """Return the text with the line ends that Polars knows; old ones are a carriage return alone."""
    return text if b"\n" in text else text.replace(b"\r", b"\n")


def _read(text: bytes, dialect: Dialect) -> pl.DataFrame:
    try:
        return pl.read_csv(
            io.BytesIO(text),
            separator=dialect.separator,
            quote_char=dialect.quote or None,
            infer_schema=False,
            null_values=list(dialect.null_values),
            encoding="utf8",
        )
    except pl.exceptions.PolarsError as error:
        reason = _ragged(text, dialect) or str(error).splitlines()[0]
        raise ContractError(f"not a readable CSV: {reason}; repair and deliver it again") from error


def _has_gaps(frame: pl.DataFrame, text: bytes, dialect: Dialect) -> bool:
    """Tell whether a row has fewer fields than the header, which Polars fills with nulls and does not tell.

    Each separator of the file stands between two fields or within one: what is missing from the sum is missing in a row.
    """
    if frame.width == 1 or not frame.height or not frame.to_series(-1).has_nulls():
        return False
    mark = dialect.separator
    within = sum(name.count(mark) for name in frame.columns)
    if dialect.quote and dialect.quote.encode() in text:
        counts = frame.select(pl.all().str.count_matches(mark, literal=True).sum())
        within += sum(counts.row(0))
    return text.count(mark.encode()) < (frame.height + 1) * (frame.width - 1) + within


def _without_gaps(frame: pl.DataFrame, text: bytes, dialect: Dialect) -> pl.DataFrame:
    """Return the rows without those of empty lines; any other row that is too short is an error."""
    if reason := _ragged(text, dialect):
        raise ContractError(f"not a readable CSV: {reason}; repair and deliver it again")
    lines = [bool(fields) for _, fields in _records(text, dialect, empty=True)]
    filled = pl.Series(lines[lines.index(True) + 1 :], dtype=pl.Boolean)
    if len(filled) != frame.height:
        raise ContractError("not a readable CSV: rows differ in their number of fields; repair and deliver it again")
    return frame.filter(filled)


def _ragged(text: bytes, dialect: Dialect) -> str:
    """Return which line breaks the table's shape, and how; empty when none does."""
    width, line = None, 1
    try:
        for line, fields in _records(text, dialect, strict=True):
            width = width or len(fields)
            if len(fields) != width:
                return f"line {line} has {len(fields)} field{'s' * (len(fields) > 1)} where the header has {width}"
    except csv.Error as error:
        return f"after line {line}: {error}"
    return ""


def _header(text: bytes, dialect: Dialect) -> list[str]:
    try:
        return next((fields for _, fields in _records(text, dialect)), [])
    except csv.Error as error:
        raise ContractError(f"not a readable CSV: {error} in the header; repair and deliver it again") from error


def _records(
    text: bytes, dialect: Dialect, *, empty: bool = False, strict: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line where each record begins, and its fields; the slow way, where Polars does not tell.

    `empty` yields empty lines as well, as no fields; a table of one column has none that are skipped.
    """
    csv.field_size_limit(MOST_BYTES)
    reader = csv.reader(
        io.TextIOWrapper(io.BytesIO(text), encoding="utf-8", newline="\n"),
        delimiter=dialect.separator,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        strict=strict,
    )
    before, width = 0, 0
    for fields in reader:
        width = width or len(fields)
        if fields or empty or width == 1:
            yield before + 1, fields or [""] * (width == 1)
        before = reader.line_num
