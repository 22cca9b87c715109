"""What every task kind is made of: metrics that own their name and direction, and a check of what they are given.

A new kind (regression, clustering) is one new module with a `TASK`, and one line in `ml_assets.tasks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MetricFunction = Callable[[np.ndarray, np.ndarray, float], "float | str"]


class TaskError(ValueError):
    """A task, a metric or the arrays given to one do not fit. The message names the thing, the value and the fix."""


@dataclass(frozen=True)
class Metric:
    """One number about predictions `score` of the truth `y` (equal-length arrays that passed `Task.check`).

    `function(y, score, threshold)` returns the number, or a text: why the number is not defined for these rows.
    `source` says where the formula comes from. `needs_both_classes` metrics say nothing about a single class.
    """

    name: str
    greater_is_better: bool
    function: MetricFunction
    description: str
    source: str
    needs_both_classes: bool = False

    def compute(self, y: np.ndarray, score: np.ndarray, threshold: float) -> float | None:
        """The metric's value, or None when it does not apply to these rows (`why_not` says why)."""
        outcome = self._outcome(y, score, threshold)
        return None if isinstance(outcome, str) else outcome

    def why_not(self, y: np.ndarray, score: np.ndarray, threshold: float) -> str | None:
        """The reason why the metric does not apply to these rows, or None when it does."""
        outcome = self._outcome(y, score, threshold)
        return outcome if isinstance(outcome, str) else None

    def better(self, one: float, other: float) -> bool:
        """True when `one` is strictly better than `other`; a tie is not better."""
        return one > other if self.greater_is_better else one < other

    def _outcome(self, y: np.ndarray, score: np.ndarray, threshold: float) -> float | str:
        if len(y) == 0:
            return "no rows"
        if self.needs_both_classes and y.min() == y.max():
            return f"only one class: every label is {y[0]:g}"
        return self.function(y, score, threshold)


@dataclass(frozen=True)
class Task:
    """A kind of problem: its metrics in the order of the reports, and what `y` and `score` must look like."""

    kind: str
    metrics: tuple[Metric, ...]
    checker: Callable[[np.ndarray, np.ndarray], None]
    default_metric: str

    @property
    def metric_names(self) -> list[str]:
        """The names of the metrics, in order."""
        return [metric.name for metric in self.metrics]

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
        self.checker(y, score)
