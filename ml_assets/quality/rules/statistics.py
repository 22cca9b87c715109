"""Rules that judge one number computed over a column. Nulls and NaN are left out.

An infinite result (one infinity among the values is enough) is within limits only if an infinite limit admits it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import polars as pl

from ml_assets.quality.rules.base import EXAMPLES, Outcome, Rule, vacuous
from ml_assets.quality.rules.limits import DoesNotFit, Limits, comparable
from ml_assets.quality.rules.parameters import COLUMN, Parameter, count_limits, limits, number_limits, set_problem
from ml_assets.quality.rules.values import membership, one_of_words

__all__ = [
    "DistinctValuesInSet",
    "MaxBetween",
    "MeanBetween",
    "MedianBetween",
    "MinBetween",
    "StdevBetween",
    "UniqueProportionBetween",
    "UniqueValueCountBetween",
]


class StatisticRule(Rule):
    """A rule of this file: a subclass names its statistic and computes it."""

    parameters = (COLUMN, *limits)
    statistic: ClassVar[str]

    @abstractmethod
    def compute(self, values: pl.Expr) -> pl.Expr:
        """Return the statistic of an expression without nulls."""

    def values(self, schema: pl.Schema) -> tuple[pl.Expr, pl.DataType]:
        """Return the column's values, and the type that the limits are read in: Float64 for all numbers."""
        column = self.kwargs["column"]
        values, dtype = comparable(pl.col(column), schema[column])
        return values, pl.Float64() if dtype.is_numeric() else dtype

    def problem(self) -> str:
        """Refuse limits that admit everything or nothing."""
        return Limits.of(self.kwargs).problem()

    def requirement(self) -> str:
        """Name the statistic and its limits."""
        return f"{self.statistic} of `{self.kwargs['column']}` must be {Limits.of(self.kwargs).phrase()}"

    def measures(self, schema: pl.Schema) -> dict[str, pl.Expr]:
        """Compute the statistic; count the values it is made of."""
        values, dtype = self.values(schema)
        Limits.of(self.kwargs).contain(values, dtype)  # raises DoesNotFit before anything is computed
        return {"judged": pl.col(self.kwargs["column"]).count(), "value": self.compute(values.drop_nulls())}

    def judge(self, measured: Mapping[str, Any], rows: int, schema: pl.Schema) -> Outcome:
        """Hold the statistic against the limits; a column without a value is red."""
        if not measured["judged"]:
            return vacuous(rows)
        value, (_, dtype) = measured["value"], self.values(schema)
        note = "a single value has none" if value is None else ""
        return Outcome(Limits.of(self.kwargs).admit(value, dtype), rows, observed=value, note=note)


class MeanBetween(StatisticRule):
    """The mean lies within limits (of numbers, times or booleans)."""

    type = "expect_column_mean_to_be_between"
    statistic = "the mean"

    def values(self, schema: pl.Schema) -> tuple[pl.Expr, pl.DataType]:
        """Refuse texts."""
        return _measurable(*super().values(schema), self.statistic)

    def compute(self, values: pl.Expr) -> pl.Expr:
        """The arithmetic mean."""
        return values.mean()


class MedianBetween(StatisticRule):
    """The median lies within limits."""

    type = "expect_column_median_to_be_between"
    statistic = "the median"
    reveals_values = True

    def values(self, schema: pl.Schema) -> tuple[pl.Expr, pl.DataType]:
        """Refuse texts."""
        return _measurable(*super().values(schema), self.statistic)

    def compute(self, values: pl.Expr) -> pl.Expr:
        """The median, the mean of the two middle values of an even number."""
        return values.median()


class StdevBetween(StatisticRule):
    """The sample standard deviation (divided by n - 1) lies within limits; one value has none, which is red."""

    type = "expect_column_stdev_to_be_between"
    parameters = (COLUMN, *number_limits)
    statistic = "the standard deviation"

    def values(self, schema: pl.Schema) -> tuple[pl.Expr, pl.DataType]:
        """Refuse texts and times."""
        values, dtype = _measurable(*super().values(schema), self.statistic)
        if dtype.is_temporal():
            raise DoesNotFit(f"{self.statistic} of a column of type {dtype} is a duration, which no limit fits")
        return values, dtype

    def compute(self, values: pl.Expr) -> pl.Expr:
        """The sample standard deviation."""
        return values.std(ddof=1)


class MinBetween(StatisticRule):
    """The smallest value lies within limits."""

    type = "expect_column_min_to_be_between"
    statistic = "the minimum"
    reveals_values = True

    def compute(self, values: pl.Expr) -> pl.Expr:
        """The smallest value."""
        return values.min()


class MaxBetween(StatisticRule):
    """The largest value lies within limits."""

    type = "expect_column_max_to_be_between"
    statistic = "the maximum"
    reveals_values = True

    def compute(self, values: pl.Expr) -> pl.Expr:
        """The largest value."""
        return values.max()


class CountingRule(StatisticRule):
    """A statistic that is a number whatever the column's type."""

    def values(self, schema: pl.Schema) -> tuple[pl.Expr, pl.DataType]:
        """Take the column as it is; the limits are numbers."""
        return pl.col(self.kwargs["column"]), pl.Float64()


class UniqueValueCountBetween(CountingRule):
    """The number of distinct values lies within limits."""

    type = "expect_column_unique_value_count_to_be_between"
    parameters = (COLUMN, *count_limits)
    statistic = "the number of distinct values"

    def compute(self, values: pl.Expr) -> pl.Expr:
        """The number of distinct values."""
        return values.n_unique()


class UniqueProportionBetween(CountingRule):
    """Distinct values over values lies within limits (in [0, 1])."""

    type = "expect_column_proportion_of_unique_values_to_be_between"
    parameters = (COLUMN, *number_limits)
    statistic = "the share of distinct values"

    def compute(self, values: pl.Expr) -> pl.Expr:
        """Distinct values over values."""
        return values.n_unique() / values.len()


class DistinctValuesInSet(Rule):
    """Every distinct value is a member of `value_set`; `unexpected_count` counts distinct values, not rows."""

    type = "expect_column_distinct_values_to_be_in_set"
    parameters = (COLUMN, Parameter("value_set", set_problem, required=True))
    counts_distinct = True

    def requirement(self) -> str:
        """Name the first members."""
        return f"the distinct values of `{self.kwargs['column']}` must be {one_of_words(self.kwargs['value_set'])}"

    def measures(self, schema: pl.Schema) -> dict[str, pl.Expr]:
        """Count and collect the distinct values outside of the set."""
        column = pl.col(self.kwargs["column"])
        member = membership(self.kwargs["column"], self.kwargs["value_set"], schema).fill_null(False)
        outside = column.filter(column.is_not_null() & ~member)
        examples = outside.unique(maintain_order=True).head(EXAMPLES).implode()
        return {"judged": column.count(), "unexpected": outside.n_unique(), "examples": examples}

    def judge(self, measured: Mapping[str, Any], rows: int, schema: pl.Schema) -> Outcome:
        """Accept only if no distinct value is outside; a column without a value is red."""
        if not measured["judged"]:
            return vacuous(rows)
        unexpected = measured["unexpected"]
        return Outcome(unexpected == 0, rows, unexpected, examples=tuple(measured.get("examples", ())))


def _measurable(values: pl.Expr, dtype: pl.DataType, statistic: str) -> tuple[pl.Expr, pl.DataType]:
    if dtype == pl.String:
        raise DoesNotFit(f"{statistic} of a text has no meaning; the column is of type String")
    return values, dtype
