"""Metrics of answered rows, their intervals, and the gain of one model over another on the same rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ml_assets.evaluation.metrics import (
    EvaluationError,
    answered,
    bootstrap_intervals,
    evaluate,
    gain_intervals,
    known_values,
    labelled,
    reasons,
    with_answers,
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
    found = evaluate(y, score, threshold=0.5, task=TASK)
    values, why = known_values(found), reasons(found)
    assert set(why) == {name for name, value in values.items() if value is None}
    assert set(why) == {"precision", "recall", "f1", "roc_auc", "pr_auc"}
    assert why["precision"] == "no row has a score of at least the threshold 0.5"


def test_scores_that_are_not_probabilities_are_refused() -> None:
    with pytest.raises(TaskError, match=r"score 3.0 is not a probability"):
        evaluate(np.array([0.0, 1.0]), np.array([0.1, 3.0]), threshold=0.5, task=TASK)


def test_labelled_leaves_out_rows_without_a_label() -> None:
    y, score = labelled(pl.DataFrame({"label": [1, None, 0], "score": [0.5, None, 0.25]}), task=TASK)
    assert y.tolist() == [1.0, 0.0]
    assert score.tolist() == [0.5, 0.25]


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_labelled_refuses_a_labelled_row_without_a_score(bad: float | None) -> None:
    with pytest.raises(EvaluationError, match=r"null.* in 1 labelled rows: score every row first"):
        labelled(pl.DataFrame({"label": [1, 0], "score": [bad, 0.25]}), task=TASK)


def test_labelled_names_a_missing_column() -> None:
    with pytest.raises(EvaluationError, match=r"column 'score' does not exist; the frame has: label"):
        labelled(pl.DataFrame({"label": [1]}), task=TASK)


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


def multi(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    score = generator.dirichlet([1, 1, 1], rows)
    return np.array([generator.choice(3, p=row) for row in score]), score


MULTI = task("classification", classes=["a", "b", "c"])


def test_the_answers_of_every_task_are_stored_and_read_back() -> None:
    y, score = multi(50)
    names = [MULTI.classes[code] for code in y]
    stored = with_answers(pl.DataFrame({"label": names}), score, MULTI, 0.5)
    assert stored.schema["scores"] == pl.List(pl.Float64)
    again = labelled(stored, task=MULTI)
    np.testing.assert_array_equal(again[0], y)
    np.testing.assert_array_equal(again[1], score)
    number = task("regression")
    stored = with_answers(pl.DataFrame({"label": [1.0, None, 3.0]}), np.array([1.5, 2.0, 2.5]), number, 0.5)
    assert labelled(stored, task=number)[1].tolist() == [1.5, 2.5]


def test_rows_without_an_outcome_do_not_count_but_are_kept() -> None:
    found = answered(pl.DataFrame({"label": [1, None, 0]}), np.array([0.9, 0.5, 0.2]), task=TASK, threshold=0.5)
    assert (len(found), found.unlabelled.height) == (2, 1)
    assert found.frame["prediction"].to_list() == [1, 0]
    assert found.take(np.array([1])).y.tolist() == [0]
    assert found.metrics["accuracy"] == 1.0


def test_clusters_need_the_matrix_in_which_rows_are_compared() -> None:
    frame, clusters = pl.DataFrame({"a": [0.0, 0.1, 5.0, 5.1]}), np.array([0, 0, 1, 1])
    kind = task("clustering")
    with pytest.raises(EvaluationError, match="a clustering needs the matrix of its 4 rows"):
        answered(frame, clusters, task=kind, threshold=0.5)
    found = answered(frame, clusters, task=kind, threshold=0.5, matrix=frame.to_numpy())
    assert (found.metrics["silhouette"] or 0) > 0.9
    assert found.frame["prediction"].to_list() == [0, 0, 1, 1]


def test_a_metric_that_is_not_cheap_has_an_interval_of_about_the_same_width() -> None:
    """The area under the curve of two classes is cheap, of three it is not: on the same rows they are as wide."""
    y, score = scored(3_000)
    three = task("classification", classes=["no", "yes", "never"])
    spread = np.column_stack([1 - score, score, np.zeros(len(score))])
    cheap = bootstrap_intervals(y, score, threshold=0.5, task=TASK, metrics=["roc_auc"])["roc_auc"]
    slow = bootstrap_intervals(y.astype(int), spread, threshold=0.5, task=three, metrics=["roc_auc_macro"])
    assert cheap is not None and slow["roc_auc_macro"] is not None
    widths = cheap[1] - cheap[0], slow["roc_auc_macro"][1] - slow["roc_auc_macro"][0]
    assert widths[1] == pytest.approx(widths[0], rel=0.35)
    assert slow["roc_auc_macro"][0] < evaluate(y, score, threshold=0.5, task=TASK)["roc_auc"] < slow["roc_auc_macro"][1]


def test_the_gain_on_the_same_rows_is_surer_than_two_intervals() -> None:
    y, score = scored(1_000)
    noise = np.clip(score + np.random.default_rng(3).normal(0, 0.15, len(score)), 0, 1)
    ours, theirs = (answered(pl.DataFrame({"label": y}), one, task=TASK, threshold=0.5) for one in (score, noise))
    gain = gain_intervals(ours, theirs, metrics=["roc_auc", "log_loss"])
    assert gain["roc_auc"] is not None and gain["log_loss"] is not None
    assert gain["roc_auc"][0] > 0 and gain["log_loss"][0] > 0, "less log-loss is a gain too"
    alone = bootstrap_intervals(y, score, threshold=0.5, task=TASK, metrics=["roc_auc"])["roc_auc"]
    assert alone is not None and gain["roc_auc"][1] - gain["roc_auc"][0] < alone[1] - alone[0]
    assert gain_intervals(ours, ours, metrics=["roc_auc"])["roc_auc"] == (0.0, 0.0)


def test_models_on_other_rows_are_not_compared() -> None:
    one = answered(pl.DataFrame({"label": [1, 0]}), np.array([0.9, 0.1]), task=TASK, threshold=0.5)
    with pytest.raises(EvaluationError, match="compare models on the same rows"):
        gain_intervals(one, one.take(np.array([1, 0])), metrics=["accuracy"])
