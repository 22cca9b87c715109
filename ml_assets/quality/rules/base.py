"""What every expectation type is made of: a name, its kwargs, the aggregates it measures, and its judgement on them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from ml_assets.quality.errors import nearest
from ml_assets.quality.rules.parameters import Parameter

__all__ = ["EXAMPLES", "Outcome", "Rule", "kwargs_problem", "vacuous"]

EXAMPLES = 20
"""Unexpected values that are collected per expectation; the distinct ones among them are shown, five at most."""


@dataclass(frozen=True)
class Outcome:
    """What a rule concludes: `unexpected_count` is None where rows are not counted, `vacuous` if nothing was judged."""

    success: bool
    element_count: int
    unexpected_count: int | None = None
    observed: Any = None
    examples: tuple[Any, ...] = ()
    note: str = ""
    vacuous: bool = False


class Rule(ABC):
    """One expectation type with one set of kwargs, checked before (`kwargs_problem`).

    A subclass owns everything about its type: adding one is one class here and one line in the registry.
    """

    type: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]
    reveals_values: ClassVar[bool] = False
    """Whether `observed` is a value of the column itself, which a column with personal data must not show."""
    counts_distinct: ClassVar[bool] = False
    """Whether `unexpected_count` counts distinct values and not rows."""

    def __init__(self, kwargs: Mapping[str, Any]) -> None:
        self.kwargs: dict[str, Any] = {item.name: item.default for item in self.parameters} | dict(kwargs)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that must exist for the rule to be measured."""
        return (self.kwargs["column"],)

    def problem(self) -> str:
        """Return what is wrong with the kwargs taken together, "" when nothing is."""
        return ""

    @abstractmethod
    def requirement(self) -> str:
        """Return the rule in words: "`distance` must be at least 1"."""

    @abstractmethod
    def measures(self, schema: pl.Schema) -> dict[str, pl.Expr]:
        """Return the aggregates that the judgement needs, by name; `DoesNotFit` when a column's type rules it out.

        NaN has become null before. Each expression gives one value (or one list) per frame, or per group.
        """

    @abstractmethod
    def judge(self, measured: Mapping[str, Any], rows: int, schema: pl.Schema) -> Outcome:
        """Return the outcome, from the values of `measures` and the number of rows of the frame or group."""

    def great_expectations_kwargs(self) -> dict[str, Any]:
        """Return the kwargs as Great Expectations on pandas understands them."""
        return {key: value for key, value in self.kwargs.items() if value is not None}


def vacuous(rows: int) -> Outcome:
    """Return the outcome of a rule that had no value to judge: red, where Great Expectations says success."""
    note = f"all {rows} values are null, so nothing was judged" if rows else "no rows, so nothing was judged"
    return Outcome(success=False, element_count=rows, note=note, vacuous=True)


def kwargs_problem(rule: type[Rule], kwargs: Mapping[str, Any]) -> str:
    """Return what is wrong with the kwargs of an expectation, naming the key and the fix; "" when nothing is."""
    known = {item.name: item for item in rule.parameters}
    for key, value in kwargs.items():
        if key not in known:
            return f"unknown key {key!r}{nearest(key, known)} Valid keys: {', '.join(known)}"
        if found := known[key].check(value):
            return f"key {key!r} {found}; it is {value!r}"
    missing = [item.name for item in rule.parameters if item.required and item.name not in kwargs]
    if missing:
        return f"key {missing[0]!r} is missing; add it"
    return rule(kwargs).problem()
