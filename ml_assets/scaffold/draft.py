"""What is going to be written, decided before any text is: features, what is left out and why, names of views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import polars as pl

from ml_assets.scaffold.columns import Column
from ml_assets.scaffold.errors import ScaffoldError
from ml_assets.scaffold.inference import MOMENT, Inferred
from ml_assets.scaffold.inspection import Finding
from ml_assets.scaffold.names import free_name

KNOWN_AT = "known_at"
WINDOWS = (7, 28)
FeastType = Literal["Float64", "Bool", "String"]
FEAST_TYPES: dict[str, FeastType] = {"number": "Float64", "boolean": "Bool", "category": "String", "text": "String"}
# Parts of a day or time as numbers: how, and in words.
PARTS: dict[str, tuple[Callable[[pl.Expr], pl.Expr], str]] = {
    "year": (lambda moment: moment.dt.year(), "Year of {}."),
    "month": (lambda moment: moment.dt.month(), "Month of {}, 1 to 12."),
    "weekday": (lambda moment: moment.dt.weekday(), "Weekday of {}, 1 is Monday."),
    "hour": (lambda moment: moment.dt.hour(), "Hour of {}, 0 to 23, UTC."),
    "days": (lambda moment: moment.dt.epoch("d"), "Days from 2000-01-01 to {}."),
}


@dataclass(frozen=True)
class Feature:
    """One column that a model may see, as the clean table has it. `part` is set for a part of a time: `column` is its name."""

    name: str
    type: FeastType
    column: str
    description: str
    part: str = ""


@dataclass(frozen=True, eq=False)
class Draft:
    """A problem on its way to files. `label_delay` is a span such as 1d: so long after the event the outcome is known."""

    name: str
    inferred: Inferred
    findings: Sequence[Finding]
    label_delay: str = "1d"

    @property
    def history(self) -> bool:
        """Tell whether the view is the entity's history of outcomes; else it holds the row's columns."""
        return self.inferred.entity is not None

    @property
    def view(self) -> str:
        """Return the name of the feature view."""
        return f"{self.name}_history" if self.history else f"{self.name}_columns"

    @property
    def service(self) -> str:
        """Return the name of the feature service."""
        return f"{self.name}_v1"

    @property
    def join_key(self) -> str:
        """Return the column by which the view is looked up."""
        return self.inferred.entity or self.inferred.key

    @property
    def landed(self) -> str:
        """Return the data file's name in the landing zone."""
        return f"{self.name}/{self.name}.{self.inferred.table.ending}"

    @property
    def pattern(self) -> str:
        """Return the pattern of that file and of later deliveries beside it."""
        return f"{self.name}/{self.name}*.{self.inferred.table.ending}"

    @cached_property
    def dropped(self) -> dict[str, Finding]:
        """Return the columns that come into no view, each with the finding that says why."""
        return {item.column: item for item in self.findings if item.left_out == "dropped"}

    @cached_property
    def ignored(self) -> dict[str, Finding]:
        """Return the columns that are there but not learned from, each with the finding that says why."""
        gone = self.dropped
        return {item.column: item for item in self.findings if item.left_out == "ignored" and item.column not in gone}

    @cached_property
    def features(self) -> list[Feature]:
        """Return what a model may see of a row; `ScaffoldError` when there is nothing."""
        taken = set(self.inferred.frame.columns)
        found = [
            feature
            for column in self.inferred.candidates
            if column.safe not in self.dropped
            for feature in self._of(column, taken)
        ]
        if not self.history and not [item for item in found if item.column not in self.ignored]:
            raise ScaffoldError("no column is left to learn from: every one is the key, constant, personal or a leak")
        return found

    def _of(self, column: Column, taken: set[str]) -> list[Feature]:
        if column.kind != "moment":
            type_: FeastType = "String" if column.becomes == "String" else FEAST_TYPES[column.kind]
            return [Feature(column.safe, type_, column.safe, f"Column {column.name!r} of the file.")]
        moments = self.inferred.frame[column.safe].drop_nulls()
        names = {part: part_name(column.safe, part) for part in PARTS if part != "hour" or column.becomes == "Datetime"}
        found = {part: name for part, name in names.items() if name not in taken and _varies(moments, part)}
        taken.update(found.values())
        return [
            Feature(name, "Float64", column.safe, PARTS[part][1].format(repr(column.name)), part)
            for part, name in found.items()
        ]

    @property
    def ignored_features(self) -> list[tuple[str, Finding]]:
        """Return the names for `features.ignore`, each with the finding that says why."""
        return [
            (feature.name, self.ignored[feature.column])
            for feature in self.features
            if feature.column in self.ignored and feature.name != self.inferred.key
        ]

    @cached_property
    def outcome_features(self) -> list[Feature]:
        """Return the features of a history view: the last outcome, means of the last ones, how many there were."""
        inferred = self.inferred
        if not self.history or inferred.target is None:
            return []
        target, taken = inferred.target, {item.name for item in self.features} | set(inferred.frame.columns)
        name = inferred.column(target).name
        found = [Feature(free_name(f"last_{target}", taken), self._outcome_type, target, f"Last known {name}.")]
        if not inferred.outcome.classes:
            what = f"Share of {inferred.outcome.positive!r}" if inferred.outcome.binary else f"Mean {name}"
            for count in WINDOWS:
                words = f"{what} in the last {count} known outcomes."
                found.append(Feature(free_name(f"{target}_mean_{count}", taken), "Float64", target, words, str(count)))
        words = "Number of known outcomes."
        return [*found, Feature(free_name(f"{target}_outcomes", taken), "Float64", target, words, "count")]

    @property
    def _outcome_type(self) -> FeastType:
        return "String" if self.inferred.outcome.classes else "Float64"

    @property
    def metric(self) -> str:
        """Return the metric of success: the task's default, or mae for a skewed number."""
        outcome = self.inferred.outcome
        if outcome.kind == "regression":
            return "mae" if outcome.skewed else "rmse"
        if outcome.kind == "clustering":
            return "silhouette"
        return "log_loss" if outcome.classes else "roc_auc"

    @property
    def question(self) -> str:
        """Return what is asked, to be put in better words by a person."""
        outcome = self.inferred.outcome
        if outcome.kind == "clustering":
            return f"Which rows of {self.name} are alike?"
        name = self.inferred.column(outcome.column).name
        if outcome.binary:
            return f"Will {name} be {outcome.positive}?"
        return f"Which {name} will it be?" if outcome.classes else f"How much will {name} be?"

    @property
    def assumptions(self) -> list[str]:
        """Return what was assumed, in words."""
        told = list(self.inferred.assumptions)
        if self.inferred.time and self.inferred.target:
            name = self.inferred.column(self.inferred.time).name
            told.append(
                f"label delay: an outcome is known {self.label_delay} after {name} (--label-delay says otherwise)"
            )
            told.append(f"all else in a row is known at its {name}; put what is not under `ignore`")
        return told

    @property
    def event(self) -> str:
        """Return the column with the moment of prediction."""
        return MOMENT if self.inferred.time else "landed_at"


def part_name(column: str, part: str) -> str:
    """Return the name of a part of a time: `signup_year`. Feast joins names by two underscores, so there is only one."""
    return f"{column.strip('_')}_{part}"


def _varies(moments: pl.Series, part: str) -> bool:
    """Tell whether a part of the moments has more than one value: what is constant teaches nothing."""
    return moments.to_frame("moment").select(PARTS[part][0](pl.col("moment"))).to_series().n_unique() > 1
