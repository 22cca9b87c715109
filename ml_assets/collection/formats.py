"""From the bytes of a delivered file to rows of text: compression, encoding, and CSV of any dialect."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Literal

import polars as pl

MOST_BYTES = 2**31  # a decompressed file beyond this is refused, not read
Format = Literal["csv", "parquet", "jsonl"]
ENDINGS: dict[str, Format] = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
BLOCK = 2**24  # bytes of CSV that are parsed at once; a row must fit
END = "\x04"  # end of transmission: in each field of the row that is added to a CSV, see `_read`
LARGE = (
    2**25
)  # bytes; of files that are larger decompressed, one is unpacked at a time, or a few bombs would fill the memory
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_one_at_a_time = Lock()


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
    unpack = _gunzip if kind == "gzip" else _unzstd
    unpacked = unpack(data, min(most, LARGE) + 1)
    if len(unpacked) > LARGE:
        with _one_at_a_time:
            unpacked = unpack(data, most + 1)
    if len(unpacked) > most:
        raise ContractError(f"the file is larger than {most} bytes decompressed; split it")
    return unpacked


def beginning(data: bytes, name: str, *, most: int) -> bytes:
    """Return the first bytes of a file as they were before compression, at most `most`; of a damaged one what can be read."""
    kind = next((kind for ending, kind in COMPRESSIONS.items() if name.lower().endswith(ending)), "")
    try:
        if kind == "gzip":
            return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(data, most)
        return _unzstd(data, most) if kind else data[:most]
    except (zlib.error, ContractError):
        return data[:most]


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

    Empty fields and null values are null. Empty lines are skipped; in a table of one column they are nulls. Raises
    `ContractError` for names that appear twice, for rows with more or fewer fields than the header, by line, and for
    what is no CSV.
    """
    text = _with_newlines(text)
    if len(text) > BLOCK and text.find(b"\n", 0, BLOCK) < 0:
        raise _unreadable(f"the first line is longer than {BLOCK} bytes")
    header = _header(text, dialect)
    twice = sorted({name for name in header if header.count(name) > 1}) if len(set(header)) < len(header) else []
    if twice:
        raise ContractError(f"columns {twice} appear more than once in the header; rename or drop all but one of each")
    return _read(text, dialect, header)


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


def _read(text: bytes, dialect: Dialect, header: list[str]) -> pl.DataFrame:
    """Read with PyArrow: Polars fills short rows with nulls, and drops an empty field too many, in silence.

    A row is added to the end and taken off again: an open quote would have swallowed it, which PyArrow does not tell.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    width = len(header)
    end = [END] * width
    quoted = bool(dialect.quote) and dialect.quote.encode() in text
    separator = dialect.separator
    try:
        found = arrow_csv.read_csv(
            pa.BufferReader(b"%b\n%b\n" % (text.removesuffix(b"\n"), separator.join(end).encode())),
            read_options=arrow_csv.ReadOptions(block_size=BLOCK, use_threads=len(text) > BLOCK),
            parse_options=arrow_csv.ParseOptions(
                delimiter=separator,
                quote_char=dialect.quote or False,
                newlines_in_values=quoted,
                ignore_empty_lines=width > 1,
            ),
            convert_options=arrow_csv.ConvertOptions(
                default_column_type=pa.string(),
                null_values=["", *dialect.null_values],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        raise _unreadable(_ragged(text, dialect) or "rows differ in their number of fields") from error
    numbered = [str(number) for number in range(found.num_columns)]  # Polars would name a nameless column
    frame = pl.DataFrame(found.rename_columns(numbered))
    if frame.width != width or frame.row(-1) != tuple(end):
        raise _unreadable(_ragged(text, dialect) or "a quote is not closed")
    frame.columns = header
    return frame.head(-1)


def _unreadable(reason: str) -> ContractError:
    return ContractError(f"not a readable CSV: {reason}; repair and deliver it again")


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
        raise _unreadable(f"{error} in the header") from error


def _records(text: bytes, dialect: Dialect, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line where each record begins, and its fields; the slow way, where PyArrow does not tell.

    Empty lines are skipped, but in a table of one column they are values.
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
        if fields or width == 1:
            yield before + 1, fields or [""]
        before = reader.line_num
