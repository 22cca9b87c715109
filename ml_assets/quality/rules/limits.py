"""Lower and upper limits, and how they meet a column's type.

Stricter than Great Expectations in one point: an open side admits every *finite* value. An infinity passes only when
the limit on its side is itself infinite and not strict (`max_value: "Infinity"`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import and_
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from ml_assets.quality.rules.parameters import INFINITIES, is_number

__all__ = ["DoesNotFit", "Limits", "comparable", "fit"]

INT64 = 2**63

COMPARED_AS: dict[str, pl.DataType] = {
    "Boolean": pl.Int8(),
    "Decimal": pl.Float64(),
    "Date": pl.Datetime("us"),
    "Categorical": pl.String(),
    "Enum": pl.String(),
    "Null": pl.Float64(),
}


class DoesNotFit(Exception):
    """An expectation asks something that the column's type cannot answer: the result is red, with this as its note."""


@dataclass(frozen=True)
class Limits:
    """`minimum` and `maximum` as written in the kwargs (None is open); `strict_*` excludes the limit itself."""

    minimum: Any = None
    maximum: Any = None
    strict_min: bool = False
    strict_max: bool = False

    @classmethod
    def of(cls, kwargs: Mapping[str, Any]) -> Limits:
        """Read the limits out of an expectation's kwargs."""
        return cls(kwargs["min_value"], kwargs["max_value"], kwargs["strict_min"], kwargs["strict_max"])

    def problem(self) -> str:
        """Return what is wrong with the limits themselves, "" when nothing is."""
        if self.minimum is None and self.maximum is None:
            return "needs min_value or max_value: without both it can never fail"
        low, high = _ordered(self.minimum), _ordered(self.maximum)
        if low is None or high is None:
            return ""
        if type(low) is not type(high):
            return f"has a min_value {self.minimum!r} and a max_value {self.maximum!r} of different types"
        empty = low > high or (low == high and (self.strict_min or self.strict_max))
        return f"admits no value at all between {self.minimum!r} and {self.maximum!r}" if empty else ""

    def phrase(self) -> str:
        """Return the limits in words: "at least 1 and below 5"."""
        if self.minimum is not None and self.minimum == self.maximum:
            return f"exactly {self.minimum}"
        low = f"{'above' if self.strict_min else 'at least'} {self.minimum}" if self.minimum is not None else ""
        high = f"{'below' if self.strict_max else 'at most'} {self.maximum}" if self.maximum is not None else ""
        return " and ".join(filter(None, (low, high)))

    def contain(self, expression: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        """Return a Boolean expression: is the value, already made `comparable`, within the limits? Null stays null."""
        (low, strict_low), (high, strict_high) = self._sides(dtype)
        sides = []
        if low is not None:
            sides.append(expression > _literal(low) if strict_low else expression >= _literal(low))
        if high is not None:
            sides.append(expression < _literal(high) if strict_high else expression <= _literal(high))
        return reduce(and_, sides)

    def admit(self, value: Any, dtype: pl.DataType) -> bool:
        """Say whether one computed value of a column of that type lies within; None and NaN never do."""
        if value is None:
            return False
        (low, strict_low), (high, strict_high) = self._sides(dtype)
        above = low is None or (value > low if strict_low else value >= low)
        below = high is None or (value < high if strict_high else value <= high)
        return bool(above and below)

    def _sides(self, dtype: pl.DataType) -> tuple[tuple[Any, bool], tuple[Any, bool]]:
        low, high = fit(self.minimum, dtype), fit(self.maximum, dtype)
        if not dtype.is_float():
            return (low, self.strict_min), (high, self.strict_max)
        return (
            (-math.inf, True) if low is None else (low, self.strict_min),
            (math.inf, True) if high is None else (high, self.strict_max),
        )


def comparable(expression: pl.Expr, dtype: pl.DataType) -> tuple[pl.Expr, pl.DataType]:
    """Return the expression in a type that limits can be compared with, and that type.

    Booleans become 0 and 1, decimals Float64, dates midnight, categories strings. `DoesNotFit` for anything else.
    """
    if dtype.is_integer() or dtype.is_float() or dtype in (pl.String, pl.Datetime):
        return expression, dtype
    if (target := COMPARED_AS.get(dtype.base_type().__name__)) is None:
        raise DoesNotFit(f"a column of type {dtype} cannot be compared with limits or values")
    return expression.cast(target), target


def fit(value: Any, dtype: pl.DataType) -> Any:
    """Return a limit or a member of a set as a value of a (comparable) type; `DoesNotFit` when it is none of it.

    A time without a zone is read in the column's own zone; a zoned time against a column without one is read as UTC.
    """
    if value is None:
        return None
    if dtype.is_temporal():
        return _fit_time(value, dtype)
    if dtype == pl.String:
        if isinstance(value, str):
            return value
    else:
        number: Any = INFINITIES.get(value, value) if isinstance(value, str) else value
        if is_number(number) or isinstance(number, bool):
            return _fit_number(number, dtype)
    raise DoesNotFit(f"{value!r} cannot be compared with a column of type {dtype}")


def _fit_number(number: float, dtype: pl.DataType) -> float:
    if dtype.is_integer() and float(number).is_integer() and abs(number) < INT64:
        return int(number)
    return float(number) if abs(number) >= INT64 else number


def _fit_time(value: Any, dtype: pl.DataType) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise DoesNotFit(f"{value!r} is no ISO 8601 time, and the column is of type {dtype}") from error
    zone = getattr(dtype, "time_zone", None)
    if zone is None:
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return moment.astimezone(ZoneInfo(zone)) if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))


def _literal(value: Any) -> pl.Expr:
    if isinstance(value, datetime) and value.tzinfo is not None:
        zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else "UTC"
        return pl.lit(value.astimezone(UTC).replace(tzinfo=None)).dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    return pl.lit(value)


def _ordered(limit: Any) -> Any:
    """Return a limit as something that limits of its own kind can be ordered by."""
    if not isinstance(limit, str):
        return None if limit is None else float(limit)
    if limit in INFINITIES:
        return INFINITIES[limit]
    try:
        moment = datetime.fromisoformat(limit)
    except ValueError:
        return limit
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
