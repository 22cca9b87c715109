"""The metrics of binary classification; scikit-learn is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from ml_assets.tasks.classification import METRICS
from ml_assets.tasks.counting import calibration_bins, confusion, curve

METRIC = {metric.name: metric for metric in METRICS}
SCORES = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1))  # ties are common
ROWS = st.lists(st.tuples(st.integers(0, 1), SCORES), min_size=1, max_size=60)
PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)

ORACLES = {
    "accuracy": lambda y, s, t: sk.accuracy_score(y, s >= t),
    "precision": lambda y, s, t: sk.precision_score(y, s >= t, zero_division=np.nan),
    "recall": lambda y, s, t: sk.recall_score(y, s >= t, zero_division=np.nan),
    "f1": lambda y, s, t: sk.f1_score(y, s >= t, zero_division=np.nan),
    "roc_auc": lambda y, s, _: sk.roc_auc_score(y, s) if len(set(y)) == 2 else np.nan,
    "pr_auc": lambda y, s, _: sk.average_precision_score(y, s) if len(set(y)) == 2 else np.nan,
    "log_loss": lambda y, s, _: sk.log_loss(y, s, labels=[0, 1]),
    "brier": lambda y, s, _: sk.brier_score_loss(y, s, pos_label=1) if len(set(y)) == 2 else np.mean((s - y) ** 2),
}


@pytest.mark.parametrize("name", ORACLES)
@PROPERTY
@given(rows=ROWS, threshold=SCORES)
def test_equals_scikit_learn(name: str, rows: list[tuple[int, float]], threshold: float) -> None:
    y, score = np.array([row[0] for row in rows], dtype=float), np.array([row[1] for row in rows])
    expected = ORACLES[name](y, score, threshold)
    value, reason = METRIC[name].compute(y, score, threshold), METRIC[name].why_not(y, score, threshold)
    if np.isnan(expected):
        assert value is None
        assert reason
    else:
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert reason is None


@pytest.mark.parametrize("name", METRIC)
@PROPERTY
@given(rows=ROWS, seed=st.integers(0, 99))
def test_the_order_of_the_rows_does_not_matter(name: str, rows: list[tuple[int, float]], seed: int) -> None:
    y, score = np.array([row[0] for row in rows], dtype=float), np.array([row[1] for row in rows])
    shuffled = np.random.default_rng(seed).permutation(len(y))
    before = METRIC[name].compute(y, score, 0.5)
    after = METRIC[name].compute(y[shuffled], score[shuffled], 0.5)
    assert after == (None if before is None else pytest.approx(before, abs=1e-12))


@pytest.mark.parametrize("name", METRIC)
def test_no_rows_is_not_applicable_with_a_reason(name: str) -> None:
    assert METRIC[name].compute(np.empty(0), np.empty(0), 0.5) is None
    assert METRIC[name].why_not(np.empty(0), np.empty(0), 0.5) == "no rows"


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_single_class_is_not_applicable_where_both_are_needed(label: float) -> None:
    y, score = np.full(4, label), np.array([0.1, 0.2, 0.8, 0.9])
    for metric in METRICS:
        if metric.needs_both_classes:
            assert metric.compute(y, score, 0.5) is None
            assert metric.why_not(y, score, 0.5) == f"only one class: every label is {label:g}"


def test_calibration_error_equals_scikit_learns_quantile_bins_without_ties() -> None:
    generator = np.random.default_rng(3)
    score = generator.permutation(1000) / 1000
    y = (generator.random(1000) < score**2).astype(float)
    positive_share, mean_score = calibration_curve(y, score, n_bins=10, strategy="quantile")
    expected = np.mean(np.abs(positive_share - mean_score))
    assert METRIC["expected_calibration_error"].compute(y, score, 0.5) == pytest.approx(expected, abs=2e-3)


def test_calibration_error_by_hand() -> None:
    y, score = np.array([0, 0, 1, 1.0]), np.array([0.2, 0.2, 0.6, 0.6])
    assert METRIC["expected_calibration_error"].compute(y, score, 0.5) == pytest.approx(0.3)
    bins = calibration_bins(y, score)
    assert bins.rows.tolist() == [2, 2]
    assert bins.positive_share.tolist() == [0, 1]


def test_a_constant_score_that_is_the_base_rate_is_calibrated() -> None:
    y = np.array([0, 0, 0, 1.0])
    assert METRIC["expected_calibration_error"].compute(y, np.full(4, 0.25), 0.5) == pytest.approx(0)
    assert METRIC["roc_auc"].compute(y, np.full(4, 0.25), 0.5) == 0.5


def test_curve_counts_at_each_distinct_score() -> None:
    points = curve(np.array([1, 0, 1, 0.0]), np.array([0.9, 0.9, 0.4, 0.1]))
    assert points.thresholds.tolist() == [0.9, 0.4, 0.1]
    assert points.tp.tolist() == [1, 2, 2]
    assert points.fp.tolist() == [1, 1, 2]
    assert (points.positives, points.negatives) == (2, 2)


def test_a_score_at_the_threshold_is_positive() -> None:
    assert confusion(np.array([1.0, 0.0]), np.array([0.5, 0.4]), 0.5) == (1, 0, 0, 1)
