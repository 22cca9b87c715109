"""What one column of a file is: its type in the contract, and what it is to a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from ml_assets.collection.formats import Dialect
from ml_assets.collection.values import from_text
from ml_assets.scaffold.dialect import number_pattern
from ml_assets.scaffold.moments import Notation, notation_of

Kind = Literal["number", "boolean", "category", "moment", "text", "empty"]

FEW = 20
"""Distinct texts up to which a column's values are told."""
LONG_TEXT = 40
"""Mean length, in letters, from which a column of mostly distinct values is text to read, not a category."""
BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})
# Whole numbers that name something, by the words of their column's name.
CODE_WORDS = frozenset(
    ["id", "zip", "zipcode", "plz", "postcode", "postal", "code", "uuid", "sku", "iban", "phone", "isbn", "ean"]
)


@dataclass(frozen=True)
class Column:
    """One column as found.

    `name` is the file's, `safe` the one used here. `type` and `format` are what the `Source` declares; `becomes` is the
    type in the clean table. `minimum` and `maximum` are values seen, as text; `categories` all values of text with few.
    `notation` is set for days and times in text.
    """

    name: str
    safe: str
    type: str
    kind: Kind
    becomes: str
    nulls: int = 0
    distinct: int = 0
    notation: Notation | None = None
    minimum: str = ""
    maximum: str = ""
    categories: tuple[str, ...] = ()

    @property
    def format(self) -> str:
        """Return the strftime form that the contract needs; empty for ISO 8601 and for what is read as text."""
        return self.notation.form if self.notation and self.type in ("Date", "Datetime") else ""


def column_of(values: pl.Series, safe: str, dialect: Dialect, *, typed: bool, padded: bool = False) -> Column:
    """Return what a column is. `typed`: it comes from Parquet or JSON, where only text may still be a time."""
    given = values.drop_nulls()
    if not len(given):
        return Column(values.name, safe, "String", "empty", "String", nulls=len(values))
    if values.dtype == pl.String:
        found = _of_text(values, given, safe, dialect, typed=typed, padded=padded)
    else:
        found = _of_typed(values, safe)
    return found


def _of_typed(values: pl.Series, safe: str) -> Column:
    """Map a type of Parquet or JSON to one of the contract's."""
    dtype = values.dtype
    if dtype == pl.Boolean:
        return Column(values.name, safe, "Boolean", "boolean", "Boolean")
    if dtype.is_integer():
        code = is_code(safe)
        return Column(values.name, safe, "Int64", "category" if code else "number", "String" if code else "Int64")
    if dtype.is_numeric():
        return Column(values.name, safe, "Float64", "number", "Float64")
    if dtype.is_temporal() and dtype not in (pl.Time, pl.Duration):
        kind = "Date" if dtype == pl.Date else "Datetime"
        return Column(values.name, safe, kind, "moment", kind)
    return Column(values.name, safe, "String", _text_kind(values.cast(pl.String)), "String")


def _of_text(values: pl.Series, given: pl.Series, safe: str, dialect: Dialect, *, typed: bool, padded: bool) -> Column:
    distinct = given.unique(maintain_order=True)
    plain = distinct.str.strip_chars() if padded else distinct
    name, kept = values.name, padded and not typed and not (plain == distinct).all()
    if notation := notation_of(plain, compact=_says_day(safe)):
        # Parquet's text stays text in the contract; a JSON text may be a time.
        return Column(name, safe, "String" if kept else notation.type, "moment", notation.type, notation=notation)
    if not typed and (found := _number(plain, safe, dialect)):
        kind, type_, becomes = found
        return Column(name, safe, "String" if kept else type_, kind, becomes)
    if not typed and not kept and set(plain.str.to_lowercase()) in BOOLEANS:
        return Column(name, safe, "Boolean", "boolean", "Boolean")
    return Column(name, safe, "String", _text_kind(given), "String")


def _number(distinct: pl.Series, safe: str, dialect: Dialect) -> tuple[Kind, str, str] | None:
    """Return kind, contract's type and clean type of text that is all numbers; None when it is not."""
    if not distinct.str.contains(number_pattern(dialect.decimal, dialect.thousands)).all():
        return None
    if distinct.str.contains(r"^[+-]?0\d").any():
        return "category", "String", "String"  # 01067: a number would lose the zero
    if distinct.str.contains(number_pattern(dialect.decimal, dialect.thousands, whole=True)).all():
        if from_text(distinct, "Int64", dialect).has_nulls():
            return "category", "String", "String"  # too long for a number: it names something
        whole = not distinct.str.contains(re.escape(dialect.decimal)).any() or dialect.decimal == dialect.thousands
        if is_code(safe):
            return "category", "Int64" if whole else "Float64", "String"
        return "number", "Int64" if whole else "Float64", "Int64" if whole else "Float64"
    return None if from_text(distinct, "Float64", dialect).has_nulls() else ("number", "Float64", "Float64")


def is_code(safe: str) -> bool:
    """Tell whether a column's name says that its whole numbers name things."""
    return bool(CODE_WORDS & set(safe.strip("_").split("_")))


def _says_day(safe: str) -> bool:
    return bool({"date", "day", "datum", "time", "timestamp"} & set(safe.strip("_").split("_")))


def _text_kind(given: pl.Series) -> Kind:
    """Return text for what is long and mostly distinct, category for all else."""
    long = (given.str.len_chars().mean() or 0) >= LONG_TEXT  # type: ignore[operator]
    return "text" if long and given.n_unique() > len(given) / 2 else "category"


def described(column: Column, values: pl.Series) -> Column:
    """Return the column with what was seen of its clean values: nulls, distinct values, lowest and highest."""
    from dataclasses import replace

    given = values.drop_nulls()
    distinct = given.n_unique() if len(given) else 0
    seen = {"nulls": values.null_count(), "distinct": distinct}
    if column.kind == "category" and 0 < distinct <= FEW:
        return replace(column, **seen, categories=tuple(map(str, given.unique().sort())))  # type: ignore[arg-type]
    if column.kind in ("number", "moment") and distinct:
        return replace(column, **seen, minimum=_told(given.min()), maximum=_told(given.max()))  # type: ignore[arg-type]
    return replace(column, **seen)  # type: ignore[arg-type]


def _told(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def agreed(columns: Sequence[Column]) -> tuple[list[Column], list[str]]:
    """Let the columns whose values tell day-first from month-first decide for those that fit both; tell what was assumed.

    Returns the columns, and for each doubtful one a sentence.
    """
    from dataclasses import replace

    sure = {item.notation.day_first for item in columns if item.notation and not item.notation.other} - {None}
    told, found = [], []
    for item in columns:
        notation = item.notation
        if notation and notation.other and len(sure) == 1 and notation.day_first not in sure:
            notation = notation.swapped()
        if notation and notation.other and not sure:
            told.append(
                f"{item.name}: {notation.form} (its values fit {notation.other} as well; correct `format` if it is that)"
            )
        found.append(replace(item, notation=notation))
    return found, told
