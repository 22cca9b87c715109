"""What decisions are worth: a right decision is never worth less than another, and the best constant is the best one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.tasks import TaskError
from ml_assets.tasks.classification import OUTCOMES, value_of
from ml_assets.tasks.counting import confusion
from ml_assets.tasks.value import Value, declared_value
from ml_assets_tests.development.samples import TASKS

MONEY = st.floats(-100, 100).map(lambda amount: round(amount, 2))
COSTS = st.floats(-100, -0.01)
CLASSES = TASKS["multiclass"].classes
ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40)


def value(kind: str, declared: dict[str, Any]) -> Value:
    found = declared_value(TASKS[kind], declared)
    assert found is not None
    return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[Value, np.ndarray, np.ndarray]:
    """A declared value of any task, labels and decisions."""
    kind = draw(st.sampled_from(["binary", "multiclass", "regression"]))
    y, decided = (np.array(column) for column in zip(*draw(ROWS), strict=True))
    if kind == "regression":
        return value(kind, {"per_unit_of_error": draw(COSTS)}), y.astype(float), decided.astype(float)
    if kind == "multiclass":
        wrong = draw(st.one_of(COSTS, st.dictionaries(st.sampled_from(CLASSES), COSTS)))
        return value(kind, {"right": draw(st.floats(0, 100)), "wrong": wrong}), y, decided
    outcomes = draw(st.dictionaries(st.sampled_from(OUTCOMES), MONEY, min_size=1))
    return value(kind, outcomes), y.clip(0, 1), decided.clip(0, 1)


@given(cases())
def test_no_decision_is_worth_more_than_the_perfect_one(case: tuple[Value, np.ndarray, np.ndarray]) -> None:
    worth, y, decided = case
    assert (worth.earned(y, decided) <= worth.perfect(y)).all()


@given(cases())
def test_no_constant_is_worth_more_than_the_best_one(case: tuple[Value, np.ndarray, np.ndarray]) -> None:
    worth, y, decided = case
    best, _ = worth.constant(y)
    of_best, of_other = (worth.earned(y, np.full(len(y), one)).sum() for one in (best, decided[0]))
    assert of_best >= of_other - 1e-9


@given(ROWS, st.dictionaries(st.sampled_from(OUTCOMES), MONEY, min_size=1))
def test_the_value_of_a_yes_or_no_is_that_of_its_outcomes(rows: list[tuple[int, int]], told: dict[str, float]) -> None:
    y, decided = (np.array(column).clip(0, 1) for column in zip(*rows, strict=True))
    assert value("binary", told).earned(y, decided).sum() == pytest.approx(value_of(confusion(y, decided, 0.5), told))


def test_constants_have_names() -> None:
    rare = np.array([0, 0, 0, 1])
    told = {"true_positive": 40, "false_positive": -15}
    assert value("binary", told).constant(rare) == (0.0, "never act")
    assert value("binary", told).constant(1 - rare) == (1.0, "always act")
    assert value("multiclass", {"right": 1}).constant(np.array([2, 2, 0])) == (2.0, f"always {CLASSES[2]}")
    assert value("regression", {"per_unit_of_error": -2}).constant(np.array([1.0, 7.0, 30.0])) == (7.0, "always 7")


def test_a_wrong_answer_may_cost_by_the_class_that_was_not_found() -> None:
    worth = value("multiclass", {"right": 5, "wrong": {CLASSES[1]: -9}, "currency": "EUR"})
    assert worth.earned(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 1])).tolist() == [5, 5, -9, 0]
    assert worth.currency == "EUR"


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "clustering"])
def test_nothing_declared_is_no_value(kind: str) -> None:
    assert declared_value(TASKS[kind], {}) is None


def test_a_currency_alone_is_no_value() -> None:
    assert declared_value(TASKS["binary"], {"currency": "USD"}) is None
    assert declared_value(TASKS["regression"], {"currency": "USD"}) is None


@pytest.mark.parametrize("much", [float("nan"), float("inf"), True, "much"])
def test_what_is_no_number_is_refused(much: object) -> None:
    with pytest.raises(TaskError, match="give numbers for any of"):
        declared_value(TASKS["binary"], {"true_positive": much})
