"""The kwargs that expectations take, each with the check that refuses a wrong value before any data is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ml_assets.quality.errors import nearest

__all__ = [
    "COLUMN",
    "COLUMN_A",
    "COLUMN_B",
    "COLUMN_LIST",
    "MOSTLY",
    "Parameter",
    "count_limits",
    "ignoring",
    "limits",
    "number_limits",
    "type_problem",
]

INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True)
class Parameter:
    """One kwarg: its name, a check that returns what is wrong with a value ("" when nothing is), and its default."""

    name: str
    check: Callable[[Any], str]
    required: bool = False
    default: Any = None


def text_problem(value: Any) -> str:
    """Refuse what is not a non-empty string."""
    return "" if isinstance(value, str) and value else "must be a non-empty string"


def flag_problem(value: Any) -> str:
    """Refuse what is not a boolean."""
    return "" if isinstance(value, bool) else "must be true or false"


def share_problem(value: Any) -> str:
    """Refuse what is not a number in [0, 1]."""
    return "" if is_number(value) and 0 <= value <= 1 else "must be a number from 0 to 1"


def limit_problem(value: Any) -> str:
    """Refuse what is neither a number nor a text (an ISO 8601 time, or a string to compare strings with) nor None."""
    fits = value is None or isinstance(value, str) or is_number(value)
    return "" if fits and value != "NaN" else "must be a number, an ISO 8601 time or a string"


def number_problem(value: Any) -> str:
    """Refuse what is neither a number nor None."""
    infinite = isinstance(value, str) and value in INFINITIES
    return "" if value is None or is_number(value) or infinite else "must be a number"


def count_problem(value: Any) -> str:
    """Refuse what is neither a whole number from 0 up nor None."""
    whole = is_number(value) and value >= 0 and float(value).is_integer()
    return "" if value is None or whole else "must be a whole number, 0 or more"


def names_problem(value: Any) -> str:
    """Refuse what is not a non-empty list of distinct non-empty strings."""
    fits = isinstance(value, list) and value and not any(text_problem(item) for item in value)
    if not fits:
        return "must be a non-empty list of names"
    return "" if len(set(value)) == len(value) else "must not name anything twice"


def set_problem(value: Any) -> str:
    """Refuse what is not a non-empty list of numbers, strings or booleans."""
    fits = isinstance(value, list) and value and all(isinstance(item, str | bool | int | float) for item in value)
    return "" if fits else "must be a non-empty list of numbers, strings or booleans (no null: nulls are never judged)"


def regex_problem(value: Any) -> str:
    """Refuse what the regular expression engine of Polars (Rust's: no look-around, no back references) cannot read."""
    if text_problem(value):
        return text_problem(value)
    try:
        pl.select(pl.lit("").str.contains(value))
    except pl.exceptions.ComputeError as error:
        return f"is no regular expression in Rust's syntax ({' '.join(str(error).split())[:160]})"
    return ""


def type_problem(value: Any) -> str:
    """Refuse what is not the name of a Polars dtype, plain ("Datetime") or in full as `str(dtype)` spells it."""
    if text_problem(value):
        return text_problem(value)
    base = value.split("(")[0]
    return "" if base in DTYPES else f"names no Polars dtype{nearest(base, DTYPES)}"


def types_problem(value: Any) -> str:
    """Refuse what is not a non-empty list of names of Polars dtypes."""
    return names_problem(value) or next(filter(None, map(type_problem, value)), "")


def is_number(value: Any) -> bool:
    """Say whether the value is an int or a float other than NaN; a boolean is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def one_of(*choices: str) -> Callable[[Any], str]:
    """Return the check that refuses all but the choices."""
    return lambda value: "" if value in choices else f"must be one of {', '.join(choices)}"


def _dtype_names() -> dict[str, Any]:
    classes = (getattr(pl, name) for name in dir(pl))
    concrete = (item for item in classes if isinstance(item, type) and issubclass(item, pl.DataType))
    return {item.__name__: item for item in concrete if item is not pl.DataType}


DTYPES = _dtype_names()

COLUMN = Parameter("column", text_problem, required=True)
COLUMN_A = Parameter("column_A", text_problem, required=True)
COLUMN_B = Parameter("column_B", text_problem, required=True)
COLUMN_LIST = Parameter("column_list", names_problem, required=True)
MOSTLY = Parameter("mostly", share_problem, default=1)


def _between(check: Callable[[Any], str]) -> tuple[Parameter, ...]:
    bounds = (Parameter("min_value", check), Parameter("max_value", check))
    return (*bounds, *(Parameter(name, flag_problem, default=False) for name in ("strict_min", "strict_max")))


limits: tuple[Parameter, ...] = _between(limit_problem)
number_limits: tuple[Parameter, ...] = _between(number_problem)
count_limits: tuple[Parameter, ...] = _between(count_problem)


def ignoring(choices: Sequence[str]) -> Parameter:
    """Return the parameter `ignore_row_if` with Great Expectations' choices; the first one is the default."""
    return Parameter("ignore_row_if", one_of(*choices), default=choices[0])
