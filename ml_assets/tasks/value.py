"""What outcomes are worth, as declared: the money of each decision, of the right one, and of the best constant one.

| answer | declared | a decision is worth |
|---|---|---|
| yes or no | `{true_positive: 40, false_positive: -15}` | what is declared of its outcome, 0 where nothing is |
| one of several classes | `{right: 5, wrong: -2}`, `wrong: {cat: -9, dog: -2}` by the true class | right or wrong |
| a number | `{per_unit_of_error: -1.5}` | so much for each unit of absolute error |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from ml_assets.tasks.base import Output, Task, TaskError
from ml_assets.tasks.classification import OUTCOMES

CURRENCY = "currency"
PER_UNIT = "per_unit_of_error"
RIGHT, WRONG = "right", "wrong"
NEVER, ALWAYS = "never act", "always act"


@dataclass(frozen=True, eq=False)
class Value(ABC):
    """Money in `currency`. `y` (n,) are labels and `decided` (n,) decisions, both as `Task.labels` gives them."""

    currency: str

    @abstractmethod
    def earned(self, y: np.ndarray, decided: np.ndarray) -> np.ndarray:
        """Return what each decision is worth (n,)."""

    @abstractmethod
    def perfect(self, y: np.ndarray) -> np.ndarray:
        """Return what the best decision for each row is worth (n,): never less than `earned`."""

    @abstractmethod
    def constant(self, y: np.ndarray) -> tuple[float, str]:
        """Return the decision that, made for all of these rows, is worth most, and its name; at least one row."""


@dataclass(frozen=True, eq=False)
class Payoffs(Value):
    """Of classes: `table` (k, k) is what a row of the class down is worth when the class across is decided."""

    table: np.ndarray
    names: Sequence[str]

    def earned(self, y: np.ndarray, decided: np.ndarray) -> np.ndarray:
        return np.asarray(self.table[y.astype(int), decided.astype(int)])

    def perfect(self, y: np.ndarray) -> np.ndarray:
        return np.asarray(self.table.max(axis=1)[y.astype(int)])

    def constant(self, y: np.ndarray) -> tuple[float, str]:
        best = int(np.argmax(np.bincount(y.astype(int), minlength=len(self.table)) @ self.table))
        return float(best), self.names[best]


@dataclass(frozen=True, eq=False)
class Errors(Value):
    """Of numbers: `per_unit` (below 0) for each unit of absolute error; no error is worth 0, and the median errs least."""

    per_unit: float

    def earned(self, y: np.ndarray, decided: np.ndarray) -> np.ndarray:
        return 0.0 + self.per_unit * np.abs(y - decided)  # 0.0 + makes 0 of -0

    def perfect(self, y: np.ndarray) -> np.ndarray:
        return np.zeros(len(y))

    def constant(self, y: np.ndarray) -> tuple[float, str]:
        middle = float(np.median(y))
        return middle, f"always {middle:.4g}"


def declared_value(task: Task, declared: Mapping[str, Any]) -> Value | None:
    """Return what a declaration's `value` says of a task's decisions; None where it says nothing.

    Raises a TaskError that names the field, the value and the fix.
    """
    if not declared:
        return None
    if task.output not in _KINDS:
        raise TaskError(
            f"value {dict(declared)} does not fit task {task.kind!r}, which has no outcome: leave value out"
        )
    currency = declared.get(CURRENCY, "")
    if not isinstance(currency, str):
        raise TaskError(f"value.currency {currency!r} is no text: write a unit of money, such as USD")
    told = {name: what for name, what in declared.items() if name != CURRENCY}
    found = _KINDS[task.output](task, told, currency)
    return found if told else None


def _of_outcomes(task: Task, told: Mapping[str, Any], currency: str) -> Value:
    _demand_numbers("value", told, OUTCOMES, "numbers for any of {}, and a currency")
    hit, alarm, missed, quiet = (float(told.get(name, 0.0)) for name in OUTCOMES)
    return Payoffs(currency, np.array([[quiet, alarm], [missed, hit]]), (NEVER, ALWAYS))


def _of_classes(task: Task, told: Mapping[str, Any], currency: str) -> Value:
    by_class = told.get(WRONG, 0.0)
    wrong = by_class if isinstance(by_class, Mapping) else dict.fromkeys(task.classes, by_class)
    wrong = {str(name): what for name, what in wrong.items()}
    _demand_numbers("value", {**told, WRONG: 0.0}, (RIGHT, WRONG), "numbers for {}, and a currency")
    _demand_numbers("value.wrong", wrong, task.classes, "one number, or numbers for any of the classes {}")
    right = float(told.get(RIGHT, 0.0))
    above = [name for name, what in wrong.items() if what > right]
    if above:
        raise TaskError(
            f"value.wrong {above} is above value.right {right:g}: a wrong answer cannot be worth more than a right one"
        )
    rows = [[float(wrong.get(name, 0.0))] * len(task.classes) for name in task.classes]
    table = np.array(rows)
    np.fill_diagonal(table, right)
    return Payoffs(currency, table, [f"always {name}" for name in task.classes])


def _of_errors(task: Task, told: Mapping[str, Any], currency: str) -> Value:
    _demand_numbers("value", told, (PER_UNIT,), "a number for {}, and a currency")
    per_unit = float(told.get(PER_UNIT, -1.0))
    if per_unit >= 0:
        raise TaskError(f"value.{PER_UNIT} {per_unit:g} is not below 0: an error costs, so write {PER_UNIT}: -1.5")
    return Errors(currency, per_unit)


_KINDS: Mapping[Output, Callable[[Task, Mapping[str, Any], str], Value]] = {
    "probability": _of_outcomes,
    "probabilities": _of_classes,
    "value": _of_errors,
}


def _demand_numbers(field: str, told: Mapping[str, Any], names: Sequence[str], what: str) -> None:
    unknown = sorted(set(told) - set(names))
    texts = sorted(name for name in set(told) & set(names) if not _is_number(told[name]))
    if unknown or texts:
        raise TaskError(f"{field} {unknown or texts}: give {what.format(list(names))}")


def _is_number(what: Any) -> bool:
    return isinstance(what, (int, float)) and not isinstance(what, bool) and isfinite(what)
