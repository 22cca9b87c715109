"""Rules about the table as a whole: its rows, its columns and their types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from ml_assets.quality.errors import nearest
from ml_assets.quality.rules.base import Outcome, Rule
from ml_assets.quality.rules.limits import Limits
from ml_assets.quality.rules.parameters import (
    COLUMN,
    Parameter,
    count_limits,
    count_problem,
    flag_problem,
    names_problem,
    type_problem,
    types_problem,
)

__all__ = ["ColumnToExist", "ColumnsToMatchSet", "RowCountBetween", "ValuesInTypeList", "ValuesOfType"]

NUMPY_NAMES = {
    "Boolean": ("bool",),
    "Datetime": ("Timestamp", "datetime64[ns]"),
    "Date": ("datetime64[ns]",),
    "String": ("str",),
    "Categorical": ("CategoricalDtype",),
    "Enum": ("CategoricalDtype",),
}
"""The pandas or numpy names for Polars dtypes, where the name in lower case is not one. Datetimes are zoned here.

Great Expectations 1.24 on pandas accepts a zoned datetime in `be_of_type` ("Timestamp"), but in no `be_in_type_list`.
"""


class SchemaRule(Rule):
    """A rule that the schema alone answers: nothing is measured."""

    def measures(self, schema: pl.Schema) -> dict[str, pl.Expr]:
        """Measure nothing."""
        return {}


class RowCountBetween(SchemaRule):
    """The number of rows lies within limits."""

    type = "expect_table_row_count_to_be_between"
    parameters = count_limits

    @property
    def columns(self) -> tuple[str, ...]:
        """No column."""
        return ()

    def problem(self) -> str:
        """Refuse limits that admit everything or nothing."""
        return Limits.of(self.kwargs).problem()

    def requirement(self) -> str:
        """Name the limits."""
        return f"the number of rows must be {Limits.of(self.kwargs).phrase()}"

    def judge(self, measured: Mapping[str, Any], rows: int, schema: pl.Schema) -> Outcome:
        """Compare the number of rows."""
        return Outcome(Limits.of(self.kwargs).admit(rows, pl.Int64()), rows, observed=rows)


class ColumnsToMatchSet(SchemaRule):
    """The table has all the named columns and, with `exact_match` (the default), no other."""

    type = "expect_table_columns_to_match_set"
    parameters = (
        Parameter("column_set", names_problem, required=True),
        Parameter("exact_match", flag_problem, default=True),
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """No column: a missing one is this rule's own finding."""
        return ()

    def requirement(self) -> str:
        """Name the columns."""
        verb = "be" if self.kwargs["exact_match"] else "include"
        return f"the columns must {verb} {', '.join(self.kwargs['column_set'])}"

    def judge(self, measured: Mapping[str, Any], rows: int, schema: pl.Schema) -> Outcome:
        """Name the columns that are missing and those that are too many."""
        expected = self.kwargs["column_set"]
        missing = [name for name in expected if name not in schema]
        surplus = [name for name in schema if name not in expected] if self.kwargs["exact_match"] else []
        found = {"missing": ", ".join(missing), "not expected": ", ".join(surplus)}
        note = "; ".join(f"{what}: {names}" for what, names in found.items() if names)
        return Outcome(not note, rows, observed=sorted(schema), note=note)


class ColumnToExist(SchemaRule):
    """The table has the column, at position `column_index` (from 0) when that is given."""

    type = "expect_column_to_exist"
    parameters = (COLUMN, Parameter("column_index", count_problem))

    @property
    def columns(self) -> tuple[str, ...]:
        """No column: a missing one is this rule's own finding."""
        return ()

    def requirement(self) -> str:
        """Name the column and its place."""
        place = "" if self.kwargs["column_index"] is None else f" at position {self.kwargs['column_index']}"
        return f"the column `{self.kwargs['column']}` must exist{place}"

    def judge(self, measured: Mapping[str, Any], rows: int, schema: pl.Schema) -> Outcome:
        """Look the column up."""
        column, wanted = self.kwargs["column"], self.kwargs["column_index"]
        if column not in schema:
            return Outcome(False, rows, note=f"the column is missing{nearest(column, schema)}")
        place = list(schema).index(column)
        fits = wanted is None or place == wanted
        return Outcome(fits, rows, note="" if fits else f"the column is at position {place}")


class TypeRule(SchemaRule):
    """The column's Polars dtype is one of some. A column has one type, so there is no `mostly` here."""

    def accepted(self) -> list[str]:
        """The accepted names."""
        raise NotImplementedError

    def requirement(self) -> str:
        """Name the types."""
        return f"`{self.kwargs['column']}` must be of type {' or '.join(self.accepted())}"

    def judge(self, measured: Mapping[str, Any], rows: int, schema: pl.Schema) -> Outcome:
        """Compare the plain name ("Datetime") or the full one ("Datetime(time_unit='us', time_zone='UTC')")."""
        dtype = schema[self.kwargs["column"]]
        names = {str(dtype), dtype.base_type().__name__}
        return Outcome(bool(names.intersection(self.accepted())), rows, observed=str(dtype))

    def numpy_names(self) -> list[str]:
        """The accepted names as pandas and numpy know them."""
        plain = [name.split("(")[0] for name in self.accepted()]
        return [known for name in plain for known in NUMPY_NAMES.get(name, (name.lower(),))]


class ValuesOfType(TypeRule):
    """The column's Polars dtype is `type_`."""

    type = "expect_column_values_to_be_of_type"
    parameters = (COLUMN, Parameter("type_", type_problem, required=True))

    def accepted(self) -> list[str]:
        """The one accepted name."""
        return [self.kwargs["type_"]]

    def great_expectations_kwargs(self) -> dict[str, Any]:
        """Translate the dtype's name for pandas."""
        return self.kwargs | {"type_": self.numpy_names()[0]}


class ValuesInTypeList(TypeRule):
    """The column's Polars dtype is in `type_list`."""

    type = "expect_column_values_to_be_in_type_list"
    parameters = (COLUMN, Parameter("type_list", types_problem, required=True))

    def accepted(self) -> list[str]:
        """The accepted names."""
        return list(self.kwargs["type_list"])

    def great_expectations_kwargs(self) -> dict[str, Any]:
        """Translate the dtypes' names for pandas."""
        return self.kwargs | {"type_list": self.numpy_names()}
