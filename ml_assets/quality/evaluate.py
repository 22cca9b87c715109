"""Evaluates a suite on a Polars frame: every expectation, and every group, in one lazy pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ml_assets.quality.errors import EvaluationError, nearest
from ml_assets.quality.expectation import Expectation
from ml_assets.quality.plain import LONGEST_TEXT, plain, rounded
from ml_assets.quality.rules import DoesNotFit, Outcome, Rule, vacuous
from ml_assets.quality.suite import Suite
from ml_assets.quality.verdict import Result, Verdict, distinct

__all__ = ["evaluate"]

GROUP = "__quality_group__"
ROWS = "__quality_rows__"
UNGROUPED = "__quality_ungrouped__"
NO_GROUP = "null"
EXAMPLES = "examples"  # the measure that only what is unexpected needs


def evaluate(frame: pl.LazyFrame | pl.DataFrame, suite: Suite, *, by: str | None = None) -> dict[str, Verdict]:
    """Return the verdict under the key "" or, with `by`, one verdict per value of that column, sorted by key.

    One lazy pass: a `select` of aggregates, or one `group_by(by)`; a second one where there are unexpected values to
    show. Keys of groups are the values as text ("2013-01-31"); rows whose `by` is null are judged under the key
    "null", and that verdict is red.

    Stricter than Great Expectations, by design: an empty suite, a frame without rows (with `by` too: one red verdict
    under ""), and a column without a single value under an expectation about values are red, each with a note. NaN
    counts as null. An infinity is unexpected unless an infinite limit admits it. A missing column or a column of an
    unfitting type is a red result with a note, never an exception.

    Raises `EvaluationError` when the frame has no column `by`.
    """
    lazy = frame.lazy()
    schema = lazy.collect_schema()
    if by is not None and by not in schema:
        raise EvaluationError(f"suite {suite.name!r}: no column {by!r} to group by{nearest(by, schema)}")
    checks = [Check.of(str(position), expectation, schema) for position, expectation in enumerate(suite)]
    measured = _measure(lazy, checks, schema, by)
    return {values.get(GROUP, ""): _verdict(suite, checks, values) for values in measured or [{ROWS: 0}]}


@dataclass(frozen=True)
class Check:
    """One expectation met with a schema: what to measure, or the note that says why it cannot be measured."""

    label: str
    expectation: Expectation
    rule: Rule
    schema: pl.Schema
    measures: Mapping[str, pl.Expr]
    note: str = ""
    all_null: bool = False

    @classmethod
    def of(cls, label: str, expectation: Expectation, schema: pl.Schema) -> Check:
        """Ask the expectation's rule what it needs of a frame with that schema."""
        rule = expectation.rule
        for column in rule.columns:
            if column not in schema:
                note = f"the column {column!r} is missing{nearest(column, schema)}"
                return cls(label, expectation, rule, schema, {}, note)
        try:
            return cls(label, expectation, rule, schema, rule.measures(schema))
        except DoesNotFit as error:
            untyped = any(schema[column] == pl.Null for column in rule.columns)
            return cls(label, expectation, rule, schema, {}, str(error), all_null=untyped)

    def expressions(self) -> list[pl.Expr]:
        """Return the measures under names that no other check uses, without the examples."""
        return [item.alias(f"{self.label}.{name}") for name, item in self.measures.items() if name != EXAMPLES]

    def examples(self) -> list[pl.Expr]:
        """Return the measure of the examples, under its name, if there is one."""
        return [item.alias(f"{self.label}.{name}") for name, item in self.measures.items() if name == EXAMPLES]

    def has_unexpected(self, measured: Sequence[Mapping[str, Any]]) -> bool:
        """Tell whether there is anything unexpected to show, in any group."""
        return any(row.get(f"{self.label}.unexpected") for row in measured)

    def result(self, values: Mapping[str, Any]) -> Result:
        """Return the result for one row of measured values."""
        rows, measured = values[ROWS], self._measured(values)
        outcome = self._outcome(measured, rows)
        personal = bool(self.expectation.meta.get("personal"))
        hidden = personal and bool(outcome.examples or self.rule.reveals_values)
        return Result(
            expectation=self.expectation,
            success=outcome.success,
            element_count=outcome.element_count,
            unexpected_count=outcome.unexpected_count,
            observed=None if personal and self.rule.reveals_values else plain(rounded(outcome.observed)),
            examples=() if personal else _shown(outcome.examples),
            note="; ".join(filter(None, (outcome.note, "values are withheld: personal data" if hidden else ""))),
        )

    def _measured(self, values: Mapping[str, Any]) -> dict[str, Any]:
        labelled = {name: f"{self.label}.{name}" for name in self.measures}
        return {name: values[label] for name, label in labelled.items() if label in values}

    def _outcome(self, measured: Mapping[str, Any], rows: int) -> Outcome:
        if self.all_null or (rows == 0 and self.measures):
            outcome = vacuous(rows)
        elif self.note:
            return Outcome(success=False, element_count=rows, note=self.note)
        else:
            outcome = self.rule.judge(measured, rows, self.schema)
        if outcome.vacuous and rows and self.expectation.meta.get("all_null") == "allowed":
            return Outcome(success=True, element_count=rows, note=f"not applicable: all {rows} values are null")
        return outcome


def _measure(lazy: pl.LazyFrame, checks: Sequence[Check], schema: pl.Schema, by: str | None) -> list[dict[str, Any]]:
    """Return the measured values: one dictionary for the frame, or one per group. Examples are looked for where there are some."""
    used = {column for check in checks for column in check.rule.columns if column in schema}
    floats = [pl.col(column).fill_nan(None) for column in schema if column in used and schema[column].is_float()]
    plain_frame, counts = lazy.with_columns(floats), [item for check in checks for item in check.expressions()]
    found = _aggregate(plain_frame, [pl.len().alias(ROWS), *counts], by)
    examples = [item for check in checks if check.has_unexpected(found) for item in check.examples()]
    if not examples:
        return found
    shown = _aggregate(plain_frame, examples, by)
    return [row | more for row, more in zip(found, shown, strict=True)]


def _aggregate(frame: pl.LazyFrame, aggregates: Sequence[pl.Expr], by: str | None) -> list[dict[str, Any]]:
    if by is None:
        return frame.select(aggregates).collect().to_dicts()
    group = pl.col(by).cast(pl.String).fill_null(NO_GROUP).alias(GROUP)
    grouped = frame.with_columns(group).group_by(GROUP)
    return grouped.agg(*aggregates, pl.col(by).null_count().alias(UNGROUPED)).sort(GROUP).collect().to_dicts()


def _shown(examples: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(distinct(plain(item, longest=LONGEST_TEXT) for item in examples))


def _verdict(suite: Suite, checks: Sequence[Check], values: Mapping[str, Any]) -> Verdict:
    results = tuple(check.result(values) for check in checks)
    notes = [] if checks else ["the suite has no expectation, so nothing was judged"]
    if not values[ROWS]:
        notes.append("there are no rows")
    if homeless := values.get(UNGROUPED):
        notes.append(f"{homeless} rows have no value in the column that groups, so they belong to no partition")
    failed = any(not result.success and result.severity == "critical" for result in results)
    return Verdict(suite.name, success=not failed and not notes, rows=values[ROWS], results=results, notes=tuple(notes))
