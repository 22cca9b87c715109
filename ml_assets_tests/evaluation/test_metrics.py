"""Metrics of rows with labels, their intervals, and the choice of a threshold."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.evaluation.metrics import (
    EvaluationError,
    bootstrap_intervals,
    choose_threshold,
    evaluate,
    labelled,
    reasons,
)
from ml_assets.tasks import TaskError, task

TASK = task("classification")


def scored(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    score = generator.random(rows)
    return (generator.random(rows) < score).astype(float), score


def test_evaluate_gives_every_metric_in_the_tasks_order() -> None:
    values = evaluate(*scored(500), threshold=0.5, task=TASK)
    assert list(values) == TASK.metric_names
    assert all(isinstance(value, float) for value in values.values())


def test_what_does_not_apply_is_none_with_a_reason() -> None:
    y, score = np.zeros(5), np.full(5, 0.2)
    values, why = evaluate(y, score, threshold=0.5, task=TASK), reasons(y, score, threshold=0.5, task=TASK)
    assert set(why) == {name for name, value in values.items() if value is None}
    assert set(why) == {"precision", "recall", "f1", "roc_auc", "pr_auc"}
    assert why["precision"] == "no row has a score of at least the threshold 0.5"


def test_scores_that_are_not_probabilities_are_refused() -> None:
    with pytest.raises(TaskError, match=r"score 3.0 is not a probability"):
        evaluate(np.array([0.0, 1.0]), np.array([0.1, 3.0]), threshold=0.5, task=TASK)


def test_labelled_leaves_out_rows_without_a_label() -> None:
    y, score = labelled(pl.DataFrame({"label": [1, None, 0], "score": [0.5, None, 0.25]}))
    assert y.tolist() == [1.0, 0.0]
    assert score.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_labelled_refuses_a_labelled_row_without_a_score(bad: float | None) -> None:
    with pytest.raises(EvaluationError, match=r"'score' is null or not finite in 1 labelled rows"):
        labelled(pl.DataFrame({"label": [1, 0], "score": [bad, 0.25]}))


def test_labelled_names_a_missing_column() -> None:
    with pytest.raises(EvaluationError, match=r"column 'score' does not exist; the frame has: label"):
        labelled(pl.DataFrame({"label": [1]}))


def test_intervals_are_the_same_for_the_same_seed_and_contain_the_value() -> None:
    y, score = scored(2000)
    values = evaluate(y, score, threshold=0.5, task=TASK)
    one = bootstrap_intervals(y, score, threshold=0.5, task=TASK, resamples=100)
    assert one == bootstrap_intervals(y, score, threshold=0.5, task=TASK, resamples=100)
    assert one != bootstrap_intervals(y, score, threshold=0.5, task=TASK, resamples=100, seed=1)
    for name in ("accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc", "log_loss", "brier"):
        low, high = one[name] or (1, 0)
        assert low < values[name] < high


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Score and label of this population have a ROC-AUC of 5/6; nominal 95 %."""
    hits = 0
    for seed in range(100):
        y, score = scored(400, seed)
        pair = bootstrap_intervals(y, score, threshold=0.5, task=TASK, metrics=["roc_auc"], seed=seed)["roc_auc"]
        hits += pair is not None and pair[0] <= 5 / 6 <= pair[1]
    print(f"coverage of the 95 % interval: {hits} of 100")
    assert hits >= 88


def test_intervals_without_rows_or_with_a_single_class_are_none() -> None:
    assert bootstrap_intervals(np.empty(0), np.empty(0), threshold=0.5, task=TASK)["brier"] is None
    assert bootstrap_intervals(np.ones(9), np.full(9, 0.5), threshold=0.5, task=TASK)["roc_auc"] is None


@settings(max_examples=100, deadline=None, derandomize=True)
@given(rows=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=1, max_size=40))
def test_no_threshold_has_a_better_f1_than_the_chosen_one(rows: list[tuple[int, int]]) -> None:
    y, score = np.array([row[0] for row in rows], dtype=float), np.array([row[1] / 10 for row in rows])
    chosen = choose_threshold(y, score)
    f1 = TASK.metric("f1")
    best = max((f1.compute(y, score, other / 10 - 0.05) or 0.0) for other in range(12))
    assert 0 <= chosen <= 1
    assert (f1.compute(y, score, chosen) or 0.0) == pytest.approx(best)


def test_the_threshold_lies_between_scores_and_of_equals_is_the_highest() -> None:
    assert choose_threshold(np.array([0, 0, 1, 1.0]), np.array([0.1, 0.2, 0.6, 0.8])) == pytest.approx(0.4)
    assert choose_threshold(np.zeros(3), np.full(3, 0.3)) == 0.5
    assert choose_threshold(np.empty(0), np.empty(0)) == 0.5
