"""Which task a target column asks for: two classes, several, a number, or none; and what cannot be learned from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from ml_assets.scaffold.columns import Column
from ml_assets.scaffold.dialect import number_pattern
from ml_assets.scaffold.errors import ScaffoldError
from ml_assets.scaffold.names import listed
from ml_assets.scaffold.reading import Table

TaskKind = Literal["classification", "regression", "clustering"]
TASKS: tuple[TaskKind, ...] = ("classification", "regression", "clustering")

LEAST_ROWS = 50
"""Rows with a known target (clustering: rows) from which 60, 20 and 20 percent are still something to learn and judge by."""
LEAST_OF_CLASS = 5
"""Rows of a class below which it cannot be learned, chosen by and judged: its rows count as rows without a target."""
MOST_CLASSES = 100
MOST_NUMBER_CLASSES = 10
"""Distinct whole numbers up to which they are rather classes than an amount."""
MOSTLY = 0.5
"""Share of numbers in a text from which it was meant to be a number."""
SKEWED = 2.0
"""Skewness (Fisher-Pearson's g1, 0 for the normal distribution) from which the mean says little about a typical row.
Bulmer, Principles of Statistics (1979), calls 1 highly skewed; the exponential distribution has 2."""
POSITIVE_WORDS = ("yes", "true", "1", "y", "t", "positive", "pos", "ja", "oui", "si")


@dataclass(frozen=True)
class Outcome:
    """The task, and what it is about.

    `positive` and `negative` are the two classes as the file writes them, `classes` three or more as text in order,
    `left_out` those with too few rows. `skewed`: a number whose mean is driven by few rows. `column` is the safe name.
    """

    kind: TaskKind
    column: str = ""
    positive: str = ""
    negative: str = ""
    classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    skewed: bool = False

    @property
    def binary(self) -> bool:
        """Tell whether there are two classes."""
        return bool(self.positive)

    @property
    def words(self) -> str:
        """Return the task in words."""
        if self.binary:
            return f"binary classification, positive is {self.positive!r}"
        if self.classes:
            return f"classification of {len(self.classes)} classes: {listed(self.classes)}"
        return self.kind

    def numbers(self, values: pl.Series) -> pl.Series:
        """Return the target as numbers: 1 and 0 for two classes, the number itself, the class's place; null where unknown."""
        if self.binary:
            text = as_text(values)
            return text.replace_strict({self.positive: 1.0, self.negative: 0.0}, default=None, return_dtype=pl.Float64)
        if self.classes:
            places = {name: float(place) for place, name in enumerate(self.classes)}
            return as_text(values).replace_strict(places, default=None, return_dtype=pl.Float64)
        return values.cast(pl.Float64)


def as_text(values: pl.Series) -> pl.Series:
    """Return classes as text: whole numbers without decimals, true and false in lower case."""
    if values.dtype.is_float() and (values.drop_nulls() % 1 == 0).all():
        return values.cast(pl.Int64).cast(pl.String)
    return values.cast(pl.String)


def outcome_of(
    table: Table, column: Column | None, values: pl.Series | None, task: str | None
) -> tuple[Outcome, list[str]]:
    """Return the task of a target (None: clustering), and what was assumed.

    `values` are the typed values. Raises `ScaffoldError` for a task that does not fit, and a target that is no target.
    """
    if task is not None and task not in TASKS:
        raise ScaffoldError(f"--task {task!r} is none; use one of: {', '.join(TASKS)}")
    if column is None or values is None:
        return _without_target(table, task)
    if task == "clustering":
        raise ScaffoldError(f"--task clustering with --target {column.name!r}: clusters need no target; leave one out")
    given = values.drop_nulls()
    _refuse_useless(column, given)
    if column.kind == "moment":
        raise ScaffoldError(
            f"target {column.name!r} is a time; predict a number or a class, such as the days until then"
        )
    _refuse_mixed(table, column, task)
    if task == "regression" or (task is None and _is_amount(column, given)):
        return _amount(column, given, chosen=task is not None)
    return _classes(column, given, chosen=task is not None)


def _without_target(table: Table, task: str | None) -> tuple[Outcome, list[str]]:
    if task in ("classification", "regression"):
        raise ScaffoldError(f"--task {task} needs --target; it is one of: {listed(table.frame.columns)}")
    _refuse_few(table.frame.height, "rows")
    told = [] if task else ["task: clustering, because no target was named"]
    return Outcome("clustering"), told


def _refuse_few(count: int, what: str) -> None:
    if count < LEAST_ROWS:
        raise ScaffoldError(
            f"{count} {what}: at least {LEAST_ROWS} are needed to train, to choose and to judge a model"
        )


def _refuse_useless(column: Column, given: pl.Series) -> None:
    if not len(given):
        raise ScaffoldError(f"target {column.name!r} has no value in any row; name another column, or fill it")
    if given.n_unique() == 1:
        raise ScaffoldError(f"target {column.name!r} is {given[0]!r} in every row: there is nothing to predict")
    _refuse_few(len(given), f"rows with a value of target {column.name!r}")


def _refuse_mixed(table: Table, column: Column, task: str | None) -> None:
    """Refuse text where a number is meant: asked for, or in most rows."""
    if column.kind not in ("category", "text") or table.frame[column.name].dtype != pl.String:
        if task == "regression" and column.kind == "boolean":
            raise ScaffoldError(
                f"--task regression: target {column.name!r} is true or false; use --task classification"
            )
        return
    text = table.frame[column.name]
    plain = text.str.strip_chars()
    good = plain.str.contains(number_pattern(table.dialect.decimal, table.dialect.thousands))
    bad = text.is_not_null() & ~good.fill_null(False)
    numbers = 1 - int(bad.sum()) / max(int(text.is_not_null().sum()), 1)
    if not bad.any() or (task != "regression" and (task == "classification" or numbers < MOSTLY)):
        return
    places = [f"{text[row]!r} in {table.where(row)}" for row in bad.arg_true().head(5).to_list()]
    fix = "use --task classification" if numbers < MOSTLY else "correct or empty them"
    raise ScaffoldError(
        f"target {column.name!r}: {int(bad.sum()):,} of {len(text) - text.null_count():,} values are no numbers, such as "
        f"{', '.join(places)}; {fix}"
    )


def _is_amount(column: Column, given: pl.Series) -> bool:
    """Tell whether a target is a number to estimate, not the name of a class."""
    if column.kind != "number" or given.n_unique() == 2:
        return False
    return not _whole(given) or given.n_unique() > MOST_NUMBER_CLASSES


def _whole(given: pl.Series) -> bool:
    return given.dtype.is_integer() or (given.dtype.is_float() and bool((given % 1 == 0).all()))


def _amount(column: Column, given: pl.Series, *, chosen: bool) -> tuple[Outcome, list[str]]:
    if not given.dtype.is_numeric():
        raise ScaffoldError(
            f"--task regression: target {column.name!r} is a code, not an amount; rename or choose another"
        )
    if not given.cast(pl.Float64).is_finite().all():
        raise ScaffoldError(f"target {column.name!r} has infinite values; correct or empty them")
    skewed = abs(given.skew() or 0.0) > SKEWED
    told = [] if chosen else [f"task: regression, because {column.name} has {given.n_unique():,} distinct numbers"]
    if skewed:
        told.append(f"success: mae, because {column.name} is skewed: few rows would decide on rmse")
    return Outcome("regression", column.safe, skewed=skewed), told


def _classes(column: Column, given: pl.Series, *, chosen: bool) -> tuple[Outcome, list[str]]:
    _refuse_no_classes(column, given)
    counts = as_text(given).value_counts(sort=True).sort(["count", given.name], descending=[True, False])
    rows = {str(name): int(count) for name, count in counts.iter_rows()}
    kept = {name: count for name, count in rows.items() if count >= LEAST_OF_CLASS}
    few = tuple(sorted(name for name in rows if name not in kept))
    if len(kept) < 2:
        raise ScaffoldError(
            f"target {column.name!r}: only {len(kept)} class has {LEAST_OF_CLASS} rows or more ({_counted(rows)}); "
            "collect more rows of the others"
        )
    told = [] if chosen else [f"task: classification, because {column.name} has {len(rows)} distinct values"]
    if few:
        told.append(
            f"classes {listed(few)} have fewer than {LEAST_OF_CLASS} rows: their rows count as rows without a target"
        )
    if len(kept) > 2:
        return Outcome("classification", column.safe, classes=tuple(sorted(kept)), left_out=few), told
    positive, negative = _positive(kept)
    told.append(f"positive class: {positive} ({kept[positive]:,} of {sum(kept.values()):,} rows)")
    return Outcome("classification", column.safe, positive, negative, left_out=few), told


def _refuse_no_classes(column: Column, given: pl.Series) -> None:
    distinct = given.n_unique()
    if given.dtype.is_float() and distinct > 2 and not _whole(given):
        raise ScaffoldError(
            f"--task classification: target {column.name!r} has {distinct:,} distinct numbers with decimals; "
            "use --task regression"
        )
    if distinct > MOST_CLASSES:
        fix = "use --task regression" if given.dtype.is_numeric() else "group them, or name another column"
        raise ScaffoldError(
            f"target {column.name!r} has {distinct:,} distinct values, such as {listed(given.unique().head(3))}: at most "
            f"{MOST_CLASSES} classes can be told apart; {fix}"
        )


def _counted(rows: dict[str, int]) -> str:
    return listed([f"{name}: {count}" for name, count in rows.items()], most=5)


def _positive(rows: dict[str, int]) -> tuple[str, str]:
    """Return the class that says yes, else the rarer one, and the other one."""
    names: Sequence[str] = sorted(rows)
    yes = [name for name in names if name.strip().lower() in POSITIVE_WORDS]
    positive = yes[0] if len(yes) == 1 else min(names, key=lambda name: (rows[name], name))
    return positive, next(name for name in names if name != positive)
