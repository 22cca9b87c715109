"""The one mapping of task kinds."""

from __future__ import annotations

import numpy as np
import pytest

from ml_assets.tasks import KINDS, TaskError, task


def test_every_kind_is_found_and_has_metrics_with_unique_names() -> None:
    for kind in KINDS:
        found = task(kind)
        assert found.kind == kind
        assert len(set(found.metric_names)) == len(found.metrics) > 0
        assert found.metric(found.default_metric).name == found.default_metric
        assert all(metric.description and metric.source for metric in found.metrics)


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
