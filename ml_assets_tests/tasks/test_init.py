"""The one mapping of task kinds."""

from __future__ import annotations

import numpy as np
import pytest

from ml_assets.tasks import KINDS, TaskError, task

EVERY = [*(task(kind) for kind in KINDS), task("classification", classes=["a", "b", "c"])]


def test_every_kind_is_found_and_has_metrics_with_unique_names() -> None:
    for found in EVERY:
        assert found.kind in KINDS
        assert len(set(found.metric_names)) == len(found.metrics) > 0
        assert found.default_metric in found.declarable_names
        assert all(metric.description and metric.source for metric in found.metrics)


def test_default_metrics() -> None:
    assert [found.default_metric for found in EVERY] == ["roc_auc", "rmse", "silhouette", "log_loss"]


def test_the_metrics_that_are_too_slow_to_resample_often() -> None:
    slow = [metric.name for found in EVERY for metric in found.metrics if not metric.cheap]
    assert slow == ["silhouette", "roc_auc_macro", "roc_auc_weighted", "pr_auc_macro"]


def test_gain_is_positive_when_the_first_is_better() -> None:
    assert task("regression").metric("mae").gain(1, 3) == 2
    assert task("regression").metric("r2").gain(0.5, 0.25) == 0.25


def test_an_unknown_kind_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(TaskError, match=r"'ranking' does not exist; use one of: classification"):
        task("ranking")


def test_an_unknown_metric_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(TaskError, match=r"metric 'auc' does not exist for task 'classification'; use one of: accuracy"):
        task("classification").metric("auc")


def test_order_and_direction_of_the_classification_metrics() -> None:
    metrics = task("classification").metrics
    assert [m.name for m in metrics if m.greater_is_better] == [
        "accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc",
    ]  # fmt: skip
    assert [m.name for m in metrics if not m.greater_is_better] == ["log_loss", "brier", "expected_calibration_error"]


def test_better_knows_the_direction_and_a_tie_is_not_better() -> None:
    classification = task("classification")
    assert classification.metric("roc_auc").better(0.8, 0.7)
    assert classification.metric("brier").better(0.1, 0.2)
    assert not classification.metric("roc_auc").better(0.7, 0.7)
    assert not classification.metric("brier").better(0.2, 0.2)


@pytest.mark.parametrize(
    ("y", "score", "message"),
    [
        ([0.0, 2.0], [0.1, 0.2], "label 2.0 is not 0 or 1"),
        ([0.0, np.nan], [0.1, 0.2], "label nan is not 0 or 1"),
        ([0.0, 1.0], [0.1, 1.2], "score 1.2 is not a probability"),
        ([0.0, 1.0], [0.1, np.nan], "score nan is not a probability"),
        ([0.0, 1.0], [0.1], "give two flat arrays of one length"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(y: list[float], score: list[float], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        task("classification").check(np.array(y), np.array(score))
