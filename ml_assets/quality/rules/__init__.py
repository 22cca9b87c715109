"""The registry of expectation types: one class each, named as in Great Expectations 1.24."""

from __future__ import annotations

from ml_assets.quality.rules.base import Outcome, Rule, kwargs_problem, vacuous
from ml_assets.quality.rules.limits import DoesNotFit
from ml_assets.quality.rules.statistics import (
    DistinctValuesInSet,
    MaxBetween,
    MeanBetween,
    MedianBetween,
    MinBetween,
    StdevBetween,
    UniqueProportionBetween,
    UniqueValueCountBetween,
)
from ml_assets.quality.rules.table import (
    ColumnsToMatchSet,
    ColumnToExist,
    RowCountBetween,
    ValuesInTypeList,
    ValuesOfType,
)
from ml_assets.quality.rules.values import (
    CompoundColumnsUnique,
    PairAGreaterThanB,
    ValueLengthsBetween,
    ValuesBetween,
    ValuesInSet,
    ValuesMatchRegex,
    ValuesNotNull,
    ValuesNull,
    ValuesUnique,
)

__all__ = ["RULES", "DoesNotFit", "Outcome", "Rule", "kwargs_problem", "vacuous"]

RULES: dict[str, type[Rule]] = {
    rule.type: rule
    for rule in (
        RowCountBetween,
        ColumnsToMatchSet,
        ColumnToExist,
        ValuesOfType,
        ValuesInTypeList,
        ValuesNotNull,
        ValuesNull,
        ValuesBetween,
        ValuesInSet,
        ValuesUnique,
        ValuesMatchRegex,
        ValueLengthsBetween,
        CompoundColumnsUnique,
        PairAGreaterThanB,
        MeanBetween,
        MedianBetween,
        StdevBetween,
        MinBetween,
        MaxBetween,
        UniqueValueCountBetween,
        UniqueProportionBetween,
        DistinctValuesInSet,
    )
}
"""Every expectation type that a suite may name."""
