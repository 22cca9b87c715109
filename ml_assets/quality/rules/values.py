"""Rules that judge each value (or row) by itself: a Boolean expression, counted, held against `mostly`.

Nulls are not judged, except by the two rules about nulls; NaN has become null before. `success` is Great Expectations'
own: (judged - unexpected) / judged >= mostly.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import polars as pl

from ml_assets.quality.rules.base import EXAMPLES, Outcome, Rule, vacuous
from ml_assets.quality.rules.limits import DoesNotFit, Limits, comparable, fit
from ml_assets.quality.rules.parameters import (
    COLUMN,
    COLUMN_A,
    COLUMN_B,
    COLUMN_LIST,
    MOSTLY,
    Parameter,
    count_limits,
    flag_problem,
    ignoring,
    limits,
    regex_problem,
    set_problem,
)

__all__ = [
    "CompoundColumnsUnique",
    "PairAGreaterThanB",
    "ValueLengthsBetween",
    "ValuesBetween",
    "ValuesInSet",
    "ValuesMatchRegex",
    "ValuesNotNull",
    "ValuesNull",
    "ValuesUnique",
    "members",
]


class ValueRule(Rule):
    """A rule of this file: a subclass says which values are judged, and which of them are as expected."""

    @abstractmethod
    def must(self) -> str:
        """Return the requirement without `mostly`."""

    @abstractmethod
    def expected(self, schema: pl.Schema) -> pl.Expr:
        """Return a Boolean expression per row; null counts as not expected."""

    def judged(self) -> pl.Expr | None:
        """Return the Boolean expression, never null, of the rows that are judged; None for all of them."""
        return pl.col(self.kwargs["column"]).is_not_null()

    def example(self) -> pl.Expr:
        """Return what is shown of an unexpected row."""
        return pl.col(self.kwargs["column"])

    def requirement(self) -> str:
        """Name the rule, and the share of values it must hold for when that is not all of them."""
        mostly = self.kwargs["mostly"]
        return self.must() if mostly == 1 else f"{self.must()} in at least {100 * mostly:g} % of the cases"

    def measures(self, schema: pl.Schema) -> dict[str, pl.Expr]:
        """Count the judged and the unexpected rows, and collect some of the latter."""
        judged, unexpected = self.judged(), ~self.expected(schema).fill_null(False)
        if judged is not None:
            unexpected = judged & unexpected
        examples = self.example().filter(unexpected).head(EXAMPLES).implode()
        counts = {} if judged is None else {"judged": judged.sum()}
        return {"unexpected": unexpected.sum(), "examples": examples, **counts}

    def judge(self, measured: Mapping[str, Any], rows: int, schema: pl.Schema) -> Outcome:
        """Hold the share of expected rows against `mostly`; no judged row at all is red."""
        judged, unexpected = measured.get("judged", rows), measured["unexpected"]
        if not judged:
            return vacuous(rows)
        success = (judged - unexpected) / judged >= self.kwargs["mostly"]
        return Outcome(success, rows, unexpected, examples=tuple(measured.get("examples", ())))


class ValuesNotNull(ValueRule):
    """No value is null. NaN counts as null; an infinity does not."""

    type = "expect_column_values_to_not_be_null"
    parameters = (COLUMN, MOSTLY)

    def must(self) -> str:
        """Name the column."""
        return f"`{self.kwargs['column']}` must not be null"

    def judged(self) -> None:
        """Every row."""

    def expected(self, schema: pl.Schema) -> pl.Expr:
        """Not null."""
        return pl.col(self.kwargs["column"]).is_not_null()

    def measures(self, schema: pl.Schema) -> dict[str, pl.Expr]:
        """Count only: there is nothing to see in a null."""
        return {"unexpected": pl.col(self.kwargs["column"]).null_count()}


class ValuesNull(ValueRule):
    """Every value is null (or NaN)."""

    type = "expect_column_values_to_be_null"
    parameters = (COLUMN, MOSTLY)

    def must(self) -> str:
        """Name the column."""
        return f"`{self.kwargs['column']}` must be null"

    def judged(self) -> None:
        """Every row."""

    def expected(self, schema: pl.Schema) -> pl.Expr:
        """Null."""
        return pl.col(self.kwargs["column"]).is_null()


class ValuesBetween(ValueRule):
    """Values lie within limits: numbers, times as ISO 8601 text, or strings in alphabetical order."""

    type = "expect_column_values_to_be_between"
    parameters = (COLUMN, MOSTLY, *limits)

    def problem(self) -> str:
        """Refuse limits that admit everything or nothing."""
        return Limits.of(self.kwargs).problem()

    def must(self) -> str:
        """Name the limits."""
        return f"`{self.kwargs['column']}` must be {Limits.of(self.kwargs).phrase()}"

    def expected(self, schema: pl.Schema) -> pl.Expr:
        """Within the limits."""
        column = self.kwargs["column"]
        return Limits.of(self.kwargs).contain(*comparable(pl.col(column), schema[column]))


class ValuesInSet(ValueRule):
    """Values are members of `value_set`."""

    type = "expect_column_values_to_be_in_set"
    parameters = (COLUMN, MOSTLY, Parameter("value_set", set_problem, required=True))

    def must(self) -> str:
        """Name the first members."""
        return f"`{self.kwargs['column']}` must be {one_of_words(self.kwargs['value_set'])}"

    def expected(self, schema: pl.Schema) -> pl.Expr:
        """A member."""
        return membership(self.kwargs["column"], self.kwargs["value_set"], schema)


class ValuesUnique(ValueRule):
    """No value occurs twice. Every occurrence of a repeated value is unexpected; nulls are not judged."""

    type = "expect_column_values_to_be_unique"
    parameters = (COLUMN, MOSTLY)

    def must(self) -> str:
        """Name the column."""
        return f"`{self.kwargs['column']}` must be unique"

    def expected(self, schema: pl.Schema) -> pl.Expr:
        """Not repeated."""
        return ~pl.col(self.kwargs["column"]).is_duplicated()


class ValuesMatchRegex(ValueRule):
    """Values contain a match of `regex` (anchor it with ^ and $ to match them whole); Rust's syntax."""

    type = "expect_column_values_to_match_regex"
    parameters = (COLUMN, MOSTLY, Parameter("regex", regex_problem, required=True))

    def must(self) -> str:
        """Name the pattern."""
        return f"`{self.kwargs['column']}` must match {self.kwargs['regex']}"

    def expected(self, schema: pl.Schema) -> pl.Expr:
        """A match."""
        return as_text(self.kwargs["column"], schema).str.contains(self.kwargs["regex"])


class ValueLengthsBetween(ValueRule):
    """The lengths of texts, in characters, lie within limits."""

    type = "expect_column_value_lengths_to_be_between"
    parameters = (COLUMN, MOSTLY, *count_limits)

    def problem(self) -> str:
        """Refuse limits that admit everything or nothing."""
        return Limits.of(self.kwargs).problem()

    def must(self) -> str:
        """Name the limits."""
        return f"the length of `{self.kwargs['column']}` must be {Limits.of(self.kwargs).phrase()}"

    def expected(self, schema: pl.Schema) -> pl.Expr:
        """A length within the limits."""
        lengths = as_text(self.kwargs["column"], schema).str.len_chars().cast(pl.Int64)
        return Limits.of(self.kwargs).contain(lengths, pl.Int64())


class CompoundColumnsUnique(ValueRule):
    """No combination of values in `column_list` occurs twice; a null equals a null.

    Rows where all are null are not judged, unless `ignore_row_if` says otherwise.
    """

    type = "expect_compound_columns_to_be_unique"
    parameters = (
        COLUMN_LIST,
        MOSTLY,
        ignoring(("all_values_are_missing", "any_value_is_missing", "never")),
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the key."""
        return tuple(self.kwargs["column_list"])

    def must(self) -> str:
        """Name the columns."""
        return f"{', '.join(f'`{name}`' for name in self.columns)} together must be unique"

    def judged(self) -> pl.Expr | None:
        """Rows with at least one value, with all of them, or all rows."""
        present = [pl.col(name).is_not_null() for name in self.columns]
        choices = {"all_values_are_missing": pl.any_horizontal, "any_value_is_missing": pl.all_horizontal}
        combine = choices.get(self.kwargs["ignore_row_if"])
        return combine(present) if combine else None

    def expected(self, schema: pl.Schema) -> pl.Expr:
        """Not repeated."""
        return ~pl.struct(self.columns).is_duplicated()

    def example(self) -> pl.Expr:
        """The values of the row's key."""
        return pl.struct(self.columns)


class PairAGreaterThanB(ValueRule):
    """`column_A` is greater than `column_B` (or equal, with `or_equal`).

    Rows where both are null are not judged, a row where one is null is unexpected: `ignore_row_if` changes that.
    """

    type = "expect_column_pair_values_a_to_be_greater_than_b"
    parameters = (
        COLUMN_A,
        COLUMN_B,
        MOSTLY,
        Parameter("or_equal", flag_problem, default=False),
        ignoring(("both_values_are_missing", "either_value_is_missing", "neither")),
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The two columns."""
        return self.kwargs["column_A"], self.kwargs["column_B"]

    def problem(self) -> str:
        """Refuse a column compared with itself."""
        first, second = self.columns
        return "" if first != second else f"key 'column_B' must name another column than {first!r}"

    def must(self) -> str:
        """Name the two columns."""
        relation = "at least" if self.kwargs["or_equal"] else "greater than"
        return f"`{self.columns[0]}` must be {relation} `{self.columns[1]}`"

    def judged(self) -> pl.Expr | None:
        """Rows with at least one of the two values, with both, or all rows."""
        first, second = (pl.col(name).is_not_null() for name in self.columns)
        choices = {"both_values_are_missing": first | second, "either_value_is_missing": first & second}
        return choices.get(self.kwargs["ignore_row_if"])

    def expected(self, schema: pl.Schema) -> pl.Expr:
        """The first is greater."""
        (first, kind_a), (second, kind_b) = (comparable(pl.col(name), schema[name]) for name in self.columns)
        if not _same_kind(kind_a, kind_b):
            raise DoesNotFit(f"a column of type {kind_a} cannot be compared with one of type {kind_b}")
        return first >= second if self.kwargs["or_equal"] else first > second

    def example(self) -> pl.Expr:
        """The two values."""
        return pl.struct(self.columns)


def _same_kind(first: pl.DataType, second: pl.DataType) -> bool:
    if first.is_numeric() or second.is_numeric():
        return first.is_numeric() and second.is_numeric()
    zones = {getattr(dtype, "time_zone", None) for dtype in (first, second)}
    return first.base_type() == second.base_type() and len(zones) == 1


def as_text(column: str, schema: pl.Schema) -> pl.Expr:
    """Return the column as text; `DoesNotFit` for lists, structs and the like."""
    if schema[column].is_nested() or schema[column] in (pl.Binary, pl.Object):
        raise DoesNotFit(f"a column of type {schema[column]} has no text")
    return pl.col(column).cast(pl.String)


def membership(column: str, values: list[Any], schema: pl.Schema) -> pl.Expr:
    """Return the Boolean expression: is the value one of `values`? Those that the type cannot hold never match.

    `DoesNotFit` when it can hold none of them: that is a mistake in the suite, not in every single row.
    """
    expression, dtype = comparable(pl.col(column), schema[column])
    found = members(values, dtype)
    if not found:
        raise DoesNotFit(f"no member of the set can be in a column of type {schema[column]}")
    return expression.is_in(pl.Series(found, dtype=dtype, strict=False).implode())


def members(values: list[Any], dtype: pl.DataType) -> list[Any]:
    """Return those of `values` that a column of that type can hold, as values of the type."""
    kept = []
    for value in values:
        try:
            member = fit(value, dtype)
        except DoesNotFit:
            continue
        if not (dtype.is_integer() and isinstance(member, float)):
            kept.append(float(member) if dtype.is_float() else member)
    return kept


def one_of_words(values: list[Any], most: int = 8) -> str:
    """Return "one of a, b, c" with at most `most` members named."""
    named = ", ".join(map(str, values[:most]))
    return f"one of {named}" + (f" and {len(values) - most} more" if len(values) > most else "")
