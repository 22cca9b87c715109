"""What every kind of problem is made of: metrics that own their name and direction, labels, answers, and checks of both.

A new kind is one new module with a subclass of `Task`, and one line in `ml_assets.tasks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

if TYPE_CHECKING:
    import polars as pl

MetricFunction = Callable[[np.ndarray, np.ndarray, float], "float | str"]
Output = Literal["probability", "probabilities", "value", "cluster"]
DEFAULT_THRESHOLD = 0.5


class TaskError(ValueError):
    """A task, a metric or the arrays given to one do not fit. The message names the thing, the value and the fix."""


@dataclass(frozen=True)
class Metric:
    """One number about predictions `score` of the truth `y` (arrays of equally many rows that passed `Task.check`).

    `function(y, score, threshold)` returns the number, or a text: why the number is not defined for these rows.
    `source` says where the formula comes from. `needs_both_classes` metrics say nothing about a single class.
    A metric that is not `declarable` is shown, but no model should be chosen by it. One that is not `cheap` takes more
    than 20 ms for 30,000 rows: 200 resamples of it want fewer rows.
    """

    name: str
    greater_is_better: bool
    function: MetricFunction
    description: str
    source: str
    needs_both_classes: bool = False
    declarable: bool = True
    cheap: bool = True
    quantile: float | None = None
    """For numbers: the quantile of the outcome whose forecast is best by this metric; None is the mean."""

    def compute(self, y: np.ndarray, score: np.ndarray, threshold: float = DEFAULT_THRESHOLD) -> float | None:
        """The metric's value, or None when it does not apply to these rows (`why_not` says why)."""
        found = self.value_or_reason(y, score, threshold)
        return None if isinstance(found, str) else found

    def why_not(self, y: np.ndarray, score: np.ndarray, threshold: float = DEFAULT_THRESHOLD) -> str | None:
        """The reason why the metric does not apply to these rows, or None when it does."""
        found = self.value_or_reason(y, score, threshold)
        return found if isinstance(found, str) else None

    def better(self, one: float, other: float) -> bool:
        """True when `one` is strictly better than `other`; a tie is not better."""
        return one > other if self.greater_is_better else one < other

    def gain(self, one: float, other: float) -> float:
        """By how much `one` is better than `other`; negative when it is worse."""
        return one - other if self.greater_is_better else other - one

    def value_or_reason(self, y: np.ndarray, score: np.ndarray, threshold: float = DEFAULT_THRESHOLD) -> float | str:
        """The metric's value, or the reason why it does not apply to these rows."""
        if len(y) == 0:
            return "no rows"
        if self.needs_both_classes and y.min() == y.max():
            return f"only one class: every label is {y[0]:g}"
        with np.errstate(over="ignore", invalid="ignore"):
            found = self.function(y, score, threshold)
        if isinstance(found, str) or np.isfinite(found):
            return found
        return f"the result is {found}: the values are too large for 64-bit numbers"


@dataclass(frozen=True)
class Task(ABC):
    """A kind of problem: its metrics in the order of the reports, and what `y` and `score` look like.

    | output | y | score |
    |---|---|---|
    | probability | (n,) 0 or 1 | (n,) probability of 1 |
    | probabilities | (n,) code of the class | (n, classes) probabilities, each row sums to 1 |
    | value | (n,) finite numbers | (n,) finite numbers |
    | cluster | (n, d) the rows as they were compared | (n,) number of the cluster, -1 for none |
    """

    kind: str
    metrics: tuple[Metric, ...]
    default_metric: str
    classes: tuple[str, ...] = ()

    output: ClassVar[Output]
    supervised: ClassVar[bool] = True

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of `ml_assets.tasks.task` that give this task, as values that JSON has."""
        return {"kind": self.kind} | ({"classes": list(self.classes)} if self.classes else {})

    @property
    def metric_names(self) -> list[str]:
        """The names of the metrics, in order."""
        return [metric.name for metric in self.metrics]

    @property
    def declarable_names(self) -> list[str]:
        """The names of the metrics that a declaration may call success, in order."""
        return [metric.name for metric in self.metrics if metric.declarable]

    def metric(self, name: str) -> Metric:
        """The metric called `name`; a TaskError lists the known ones."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        known = ", ".join(self.metric_names)
        raise TaskError(f"metric {name!r} does not exist for task {self.kind!r}; use one of: {known}")

    def check(self, y: np.ndarray, score: np.ndarray) -> None:
        """Raise a TaskError when truth and score are not of one length or not what this task expects."""
        if y.ndim != 1 or y.shape != score.shape:
            raise TaskError(f"y has shape {y.shape}, score has shape {score.shape}: give two flat arrays of one length")
        self._check(y, score)

    @abstractmethod
    def _check(self, y: np.ndarray, score: np.ndarray) -> None:
        """Raise a TaskError for labels or scores that this task does not have."""

    @abstractmethod
    def labels(self, column: pl.Series) -> np.ndarray:
        """Return a label column without nulls as `y`; a TaskError names a value that is none."""

    @abstractmethod
    def losses(self, y: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Return how wrong each row's score is (n,), 0 is right: what sorts the worst errors."""

    @abstractmethod
    def answers(self, score: np.ndarray, threshold: float) -> dict[str, Any]:
        """Return the columns of the answer by name: `prediction`, `score`, and what else the task tells."""

    @abstractmethod
    def stored(self, frame: pl.DataFrame) -> np.ndarray:
        """Return the score array of a frame that holds the columns of `answers`."""

    @abstractmethod
    def expectations(self) -> list[tuple[str, dict[str, Any]]]:
        """Return what holds for the values in the columns of `answers`: Great Expectations' type and arguments of each."""

    def choose_threshold(self, y: np.ndarray, score: np.ndarray, value: Mapping[str, float] | None = None) -> float:
        """Return the threshold at which scores become decisions; tasks that decide otherwise ignore it."""
        return DEFAULT_THRESHOLD

    def describe(self, y: np.ndarray) -> str:
        """Return what the labels look like, in a few words for a report."""
        return f"{len(y):,} rows"

    @abstractmethod
    def plots(self, y: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, bytes]:
        """Return the task's plots of these rows as PNG bytes by title."""

    @abstractmethod
    def evidently_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return what Evidently is to see of a frame with the columns label and those of `answers`: labelled rows only.

        Raises a TaskError for a column that is missing.
        """

    @abstractmethod
    def evidently(self, threshold: float, frames: Sequence[pl.DataFrame] = ()) -> tuple[Any, Sequence[Any]]:
        """Return Evidently's `DataDefinition` and presets for frames made by `evidently_frame`.

        `frames` are the current one and, when there is one, the reference. Evidently fails on some of what a frame may
        lack (a class without rows, a column without values): that is left out.
        """


def known_rows(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return these columns of `frame`, without rows that hold a null; a TaskError names a column that is missing."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise TaskError(f"the frame lacks {missing}; it has: {', '.join(frame.columns)}")
    return frame.select(columns).drop_nulls()
