"""Column contracts: what the columns of a table promise, from which its suite is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ml_assets.quality.errors import ContractError, nearest
from ml_assets.quality.expectation import ALL_NULL_ALLOWED, PERSONAL, Expectation, Severity
from ml_assets.quality.rules.limits import DoesNotFit, Limits, comparable, fit
from ml_assets.quality.rules.parameters import DTYPES, is_number, type_problem
from ml_assets.quality.suite import Suite

__all__ = ["ColumnContract", "suite_for"]


@dataclass(frozen=True, kw_only=True)
class ColumnContract:
    """What one column promises.

    `dtype` is the name of a Polars dtype ("Int64", "Float64", "String", "Datetime", "Date", "Boolean"). `nullable` is
    False (no null), the largest share of nulls allowed, or True (any). `minimum` and `maximum` belong to the column,
    times as ISO 8601 text; `categories` are all the values there may be. `sparse` columns may be without a single
    value in one partition: then there is nothing to judge, where other columns are red. `personal` values never appear
    in a verdict. `severity` is that of the expectations about values; a missing column or a wrong type
    is always critical. `unit` and `description` are for people.

    Raises `ContractError` for a contract that contradicts itself.
    """

    name: str
    dtype: str
    nullable: bool | float = False
    minimum: Any = None
    maximum: Any = None
    categories: Sequence[str | int | float | bool] = ()
    unique: bool = False
    unit: str = ""
    description: str = ""
    personal: bool = False
    sparse: bool = False
    severity: Severity = "critical"

    def __post_init__(self) -> None:
        """Refuse contradictions early, before any frame is seen."""
        object.__setattr__(self, "categories", tuple(self.categories))
        if problem := self._name_or_type() or self._nullable() or self._values():
            raise ContractError(f"column contract {self.name!r}: {problem}")

    @property
    def polars_type(self) -> pl.DataType:
        """The Polars dtype; "Datetime" is in microseconds and UTC, as everywhere in the lake."""
        base = self.dtype.split("(")[0]
        special = {"Datetime": pl.Datetime("us", "UTC"), "Enum": pl.Enum(list(map(str, self.categories)))}
        return special[base] if base in special else DTYPES[base]()

    def expectations(self) -> list[Expectation]:
        """Return the contract as expectations: type, nulls, limits, categories, uniqueness."""
        about = {"column": self.name}
        limits = {"min_value": self.minimum, "max_value": self.maximum}
        found = [Expectation("expect_column_values_to_be_of_type", {**about, "type_": self.dtype})]
        if self.nullable is not True:
            found.append(self._about_values("not_be_null", mostly=round(1 - self.nullable, 12)))
        if self.minimum is not None or self.maximum is not None:
            found.append(self._about_values("be_between", **limits))
        if self.categories:
            found.append(self._about_values("be_in_set", value_set=list(self.categories)))
        return found + [self._about_values("be_unique")] * self.unique

    def _about_values(self, what: str, **kwargs: Any) -> Expectation:
        meta = (PERSONAL if self.personal else {}) | (ALL_NULL_ALLOWED if self.sparse else {})
        return Expectation(f"expect_column_values_to_{what}", {"column": self.name, **kwargs}, self.severity, meta)

    def _name_or_type(self) -> str:
        if not self.name:
            return "the name must not be empty"
        problem = type_problem(self.dtype)
        if not problem and DTYPES[self.dtype.split("(")[0]].is_nested():
            problem = "is nested; no contract can be made for it, use expectations in `extra`"
        return f"dtype {self.dtype!r} {problem}" if problem else ""

    def _nullable(self) -> str:
        if not isinstance(self.nullable, bool) and not (is_number(self.nullable) and 0 <= self.nullable <= 1):
            return f"nullable must be true, false or a share from 0 to 1; it is {self.nullable!r}"
        if self.sparse and self.nullable is not True:
            return "sparse says that it may be all null; set nullable=True as well"
        return ""

    def _values(self) -> str:
        """Return which limit or category the type cannot hold."""
        wanted = [item for item in (self.minimum, self.maximum, *self.categories) if item is not None]
        if not wanted:
            return ""
        try:
            _, dtype = comparable(pl.col(self.name), self.polars_type)
            for item in wanted:
                fit(Expectation("", {"value": item}).kwargs["value"], dtype)
        except DoesNotFit as error:
            return f"{error}; change the dtype or the value"
        return Limits(*(wanted[:2])).problem() if self.minimum is not None and self.maximum is not None else ""


def suite_for(
    name: str,
    columns: Sequence[ColumnContract],
    *,
    key: Sequence[str] = (),
    minimum_rows: int = 1,
    extra: Sequence[Expectation] = (),
) -> Suite:
    """Return the suite of a table: enough rows, all columns present, each column's contract, a unique key, and `extra`.

    Columns that no contract names are allowed. In the `key` a null counts as a value. Raises `ContractError` when a
    column is named twice or the key names none of them, `SuiteError` for a mistake in `extra`.
    """
    names = [column.name for column in columns]
    for column in {item for item in names if names.count(item) > 1}:
        raise ContractError(f"suite {name!r}: the column {column!r} has two contracts; keep one")
    for column in key:
        if column not in names:
            raise ContractError(f"suite {name!r}: the key column {column!r} has no contract{nearest(column, names)}")
    table = [Expectation("expect_table_row_count_to_be_between", {"min_value": minimum_rows})]
    if names:
        table.append(Expectation("expect_table_columns_to_match_set", {"column_set": names, "exact_match": False}))
    values = [expectation for column in columns for expectation in column.expectations()]
    return Suite(name, (*table, *values, *_unique(columns, key), *extra))


def _unique(columns: Sequence[ColumnContract], key: Sequence[str]) -> list[Expectation]:
    meta = PERSONAL if any(column.personal for column in columns if column.name in key) else {}
    if len(key) > 1:
        kwargs = {"column_list": list(key), "ignore_row_if": "never"}
        return [Expectation("expect_compound_columns_to_be_unique", kwargs, meta=meta)]
    stated = {column.name for column in columns if column.unique}
    unique = "expect_column_values_to_be_unique"
    return [Expectation(unique, {"column": name}, meta=meta) for name in key if name not in stated]
