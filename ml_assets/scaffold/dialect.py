"""How a text file is written: encoding, separator, quote, decimal point, thousands mark. Decided by the data, and told."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ml_assets.scaffold.errors import ScaffoldError

NULLS = ("", "NA", "N/A", "null", "NULL", "None", "nan", "NaN", "-", "?")
"""Spellings of "there is no value"; only those that a file has are declared."""
LINES = 200
"""Lines at the beginning that decide on separator and quote."""
LETTERS = 4_000_000
NUMBER_ROWS = 5_000
"""Rows, spread over the file, that decide on decimal point and thousands mark."""
SEPARATORS = (",", ";", "\t", "|")
OTHER_SEPARATORS = r"[^\w\s\"'.()\[\]{}%€$/\\+-]"
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

# -- encoding --------------------------------------------------------------------------------------------------------


def encoding_of(data: bytes) -> str:
    """Return utf-8, utf-16 (by its mark, or by its zero bytes), cp1252, or latin-1, which reads any bytes."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return encoding
    if _is(data, "utf-8"):
        return _wide(data) or "utf-8"
    return "cp1252" if _is(data, "cp1252") else "latin-1"


def _is(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _wide(data: bytes) -> str:
    """Return the form of UTF-16 without a mark: every other byte of plain text is zero."""
    start = data[:2000]
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(start) >= 4 and start[offset::2].count(0) > 0.4 * len(start):
            return encoding
    return ""


# -- separator and quote -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cut:
    """The first lines, cut by one separator and quote: fields of the header, and the shares of rows that have as many
    and of fields that stand in the quotes."""

    separator: str
    quote: str
    width: int
    consistent: float
    quoted: float


def separator_of(text: str, where: str) -> tuple[str, str]:
    """Return separator and quote: those by which the first lines all have as many fields as the header, two or more.

    Raises `ScaffoldError` when there are none, with what the best guess found.
    """
    lines = _first_lines(text)
    if not "".join(lines[1:]).strip():
        raise ScaffoldError(f"{where} has a header but no rows; give a file with rows")
    quotes = ['"', *(["'"] if any("'" in line for line in lines) else [])]
    found = [cut for separator in _separators(lines) for quote in quotes if (cut := _cut(lines, separator, quote))]
    usable = [cut for cut in found if cut.width > 1 and cut.consistent > 0.5]
    if not usable:
        raise ScaffoldError(
            f"{where}: no separator gives the header and the lines below it the same two or more fields; the header is "
            f"{lines[0].strip()[:80]!r}. Take away lines above the header, and put , ; | or a tab between the fields"
        )
    best = max(usable, key=_rank)
    return best.separator, best.quote


def _rank(cut: _Cut) -> tuple[float, bool, bool, int]:
    """Consistency first; then the usual separators, a quote that is in use, and the order in which they were tried."""
    quoted = cut.quoted > 0.1 or (cut.quote == '"' and cut.quoted > 0)
    return round(cut.consistent, 2), cut.separator in SEPARATORS, quoted, cut.width


def _first_lines(text: str) -> list[str]:
    start = text[:LETTERS]
    lines = start.splitlines(keepends=True)
    if len(start) < len(text) and len(lines) > 1:
        lines.pop()  # cut off in the middle
    return lines[: LINES + 1]


def _separators(lines: Sequence[str]) -> list[str]:
    """Return the usual separators, whatever other marks the header has, and a blank where it has no usual one."""
    others = sorted(
        mark for mark in set(re.findall(OTHER_SEPARATORS, lines[0])) if mark.isascii() and mark not in ",;|"
    )
    blank = [] if any(mark in lines[0] for mark in SEPARATORS) else [" "]
    return [*SEPARATORS, *others, *blank]


def _cut(lines: Sequence[str], separator: str, quote: str) -> _Cut | None:
    try:
        rows = [row for row in csv.reader(lines, delimiter=separator, quotechar=quote) if row]
    except csv.Error:
        return None
    widths = [len(row) for row in rows[1:-1] or rows[1:]]  # the last may be cut off inside of quotes
    if not widths:
        return None
    right = Counter(widths)[len(rows[0])] / len(widths)
    return _Cut(separator, quote, len(rows[0]), right, _quoted(lines, separator, quote))


def _quoted(lines: Sequence[str], separator: str, quote: str) -> float:
    """Return the share of fields that stand in quotes."""
    if not any(quote in line for line in lines):
        return 0.0
    fields = [field.strip() for line in lines for field in line.split(separator)]
    return sum(len(field) > 1 and field[0] == field[-1] == quote for field in fields) / max(len(fields), 1)


# -- numbers -----------------------------------------------------------------------------------------------------------

MARKS = ((".", ""), (".", ","), (".", " "), (".", "'"), (",", ""), (",", "."), (",", " "), (",", "'"))
"""(decimal, thousands); of those that read equally many columns as numbers the first."""


def number_pattern(decimal: str, thousands: str, *, whole: bool = False) -> str:
    """Return the regular expression of a number. A thousands mark stands between groups of three digits, if it stands at all."""
    point = re.escape(decimal)
    fraction = f"(?:{point}0*)?" if whole else f"(?:{point}\\d*)?"
    forms = [rf"\d+{fraction}"]
    if thousands:
        forms.append(rf"[1-9]\d{{0,2}}(?:{re.escape(thousands)}\d{{3}})+{fraction}")
    if not whole:
        forms.append(rf"{point}\d+")
    exponent = "" if whole else r"(?:[eE][+-]?\d+)?"
    return rf"^[+-]?(?:{'|'.join(forms)}){exponent}$"


def numbers_of(frame: pl.DataFrame, separator: str) -> tuple[str, str]:
    """Return decimal point and thousands mark of the text columns: those by which most of them are numbers."""
    step = max(1, frame.height // NUMBER_ROWS)
    sample = frame.gather_every(step)
    marks = [pair for pair in _marks(separator) if _occurs(sample, pair)]
    if len(marks) == 1:
        return marks[0]
    scores = {pair: _numeric(sample, pair) for pair in marks}
    return max(marks, key=lambda pair: round(scores[pair], 6))  # the first of equals


def _marks(separator: str) -> list[tuple[str, str]]:
    """With semicolons between the fields a lone comma is rather a decimal point than a thousands mark."""
    return sorted(MARKS, key=lambda pair: pair == (".", ",")) if separator == ";" else list(MARKS)


def _occurs(sample: pl.DataFrame, pair: tuple[str, str]) -> bool:
    """Tell whether both marks stand before a digit somewhere, so that few pairs have to be tried."""
    wanted = [mark for mark in pair if mark and mark != "."]
    return all(any(sample.select(pl.all().str.contains(rf"\d{re.escape(mark)}\d").any()).row(0)) for mark in wanted)


def _numeric(sample: pl.DataFrame, pair: tuple[str, str]) -> float:
    """Return the number of columns that are numbers; one that is so in more than half of its rows counts in part."""
    shares: Mapping[str, float | None] = sample.select(pl.all().str.contains(number_pattern(*pair)).mean()).row(
        0, named=True
    )
    return sum(share for share in shares.values() if share and share > 0.5)
