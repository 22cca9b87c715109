"""The threshold of a yes-or-no classification: the best F1, or the most value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.tasks import task
from ml_assets.tasks.classification import choose_threshold, value_of
from ml_assets.tasks.counting import confusion

TASK = task("classification")
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=1, max_size=40)


def arrays(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row[0] for row in rows], dtype=float), np.array([row[1] / 10 for row in rows])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows=ROWS)
def test_no_threshold_has_a_better_f1_than_the_chosen_one(rows: list[tuple[int, int]]) -> None:
    y, score = arrays(rows)
    chosen = choose_threshold(y, score)
    f1 = TASK.metric("f1")
    best = max((f1.compute(y, score, other / 10 - 0.05) or 0.0) for other in range(12))
    assert 0 <= chosen <= 1
    assert (f1.compute(y, score, chosen) or 0.0) == pytest.approx(best)


def test_the_threshold_lies_between_scores_and_of_equals_is_the_highest() -> None:
    assert choose_threshold(np.array([0, 0, 1, 1.0]), np.array([0.1, 0.2, 0.6, 0.8])) == pytest.approx(0.4)
    assert choose_threshold(np.zeros(3), np.full(3, 0.3)) == 0.5
    assert choose_threshold(np.empty(0), np.empty(0)) == 0.5


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows=ROWS, worth=st.tuples(*[st.integers(-20, 20)] * 4))
def test_no_threshold_is_worth_more_than_the_chosen_one(rows: list[tuple[int, int]], worth: tuple[int, ...]) -> None:
    y, score = arrays(rows)
    names = ("true_positive", "false_positive", "false_negative", "true_negative")
    value = dict(zip(names, map(float, worth), strict=True))
    best = max(value_of(confusion(y, score, other / 10 - 0.05), value) for other in range(12))
    if (y == 1).any():
        assert value_of(confusion(y, score, choose_threshold(y, score, value)), value) == best


def test_where_nothing_should_be_decided_the_threshold_lies_above_all_scores() -> None:
    y, score = np.array([0, 0, 0, 1]), np.full(4, 0.25)
    assert choose_threshold(y, score, {"true_positive": 1.0, "true_negative": 1.0}) == pytest.approx(0.625)
    assert choose_threshold(y, score, {"true_positive": 10.0, "false_positive": -1.0}) == pytest.approx(0.125)
