"""Regression; scikit-learn is the oracle."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.tasks import TaskError, task
from ml_assets.tasks.regression import METRICS

METRIC = {metric.name: metric for metric in METRICS}
VALUES = st.one_of(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 3.0]), st.floats(-1e6, 1e6))
ROWS = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=40)
REGRESSION = task("regression")

ORACLES = {
    "mae": sk.mean_absolute_error,
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    "median_ae": sk.median_absolute_error,
    "r2": lambda y, p: sk.r2_score(y, p) if len(set(y)) > 1 else np.nan,
    "mape": lambda y, p: sk.mean_absolute_percentage_error(y, p) if (np.abs(y) > 1e-12).all() else np.nan,
    "rmsle": lambda y, p: sk.root_mean_squared_log_error(y, p) if min(*y, *p) > -1 else np.nan,
    "bias": lambda y, p: np.mean(p - y),
    **{f"pinball_{q}": lambda y, p, q=q: sk.mean_pinball_loss(y, p, alpha=q / 100) for q in (10, 50, 90)},
}


def test_every_metric_has_an_oracle() -> None:
    assert set(ORACLES) == set(METRIC)


@pytest.mark.parametrize("name", ORACLES)
@settings(max_examples=80)
@given(rows=ROWS)
def test_equals_scikit_learn(name: str, rows: list[tuple[float, float]]) -> None:
    y, score = np.array(rows).T
    if name == "mape" and ((y != 0) & (np.abs(y) <= 1e-12)).any():
        return  # scikit-learn divides by at least 2.2e-16, we by the label
    if name == "r2" and 0 < np.ptp(y) < 1e-3:
        return  # the spread is rounding
    expected = ORACLES[name](y, score)
    if np.isnan(expected):
        assert METRIC[name].compute(y, score) is None
        assert METRIC[name].why_not(y, score)
    else:
        assert METRIC[name].compute(y, score) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "y", "score", "reason"),
    [
        ("r2", [2, 2], [1, 2], "every label is 2: there is no spread to explain"),
        ("r2", [2], [1], "every label is 2: there is no spread to explain"),
        ("mape", [0, 1, 0], [1, 1, 1], "the label is 0 in 2 rows: no error is a share of nothing"),
        ("rmsle", [-1, 0], [0, 0], "label -1 is -1 or less, and has no logarithm of 1 + it"),
        ("rmsle", [0, 0], [0, -3], "score -3 is -1 or less, and has no logarithm of 1 + it"),
        ("mse", [1e300, 0], [-1e300, 0], "the result is inf: the values are too large for 64-bit numbers"),
        ("mae", [], [], "no rows"),
    ],
)
def test_what_is_not_defined_says_why(name: str, y: list[float], score: list[float], reason: str) -> None:
    arrays = np.array(y, dtype=float), np.array(score, dtype=float)
    assert METRIC[name].compute(*arrays) is None
    assert METRIC[name].why_not(*arrays) == reason


def test_pinball_prefers_its_quantile() -> None:
    y = np.arange(101.0)
    for q in (10, 50, 90):
        losses = {guess: METRIC[f"pinball_{q}"].compute(y, np.full(101, guess)) for guess in (10.0, 50.0, 90.0)}
        assert min(losses, key=lambda guess: losses[guess]) == q


def test_bias_tells_the_direction_and_cannot_be_declared() -> None:
    assert METRIC["bias"].compute(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == 1.5
    assert "bias" not in REGRESSION.declarable_names
    assert set(REGRESSION.metric_names) - set(REGRESSION.declarable_names) == {"bias"}


def test_labels_are_finite_numbers() -> None:
    assert REGRESSION.labels(pl.Series("label", [1, 2])).tolist() == [1.0, 2.0]
    for column in (["a"], [None, 1.0], [np.nan], [np.inf]):
        with pytest.raises(TaskError, match="label column 'label'"):
            REGRESSION.labels(pl.Series("label", column))


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TaskError, match="score inf is not a finite number"):
        REGRESSION.check(np.array([1.0]), np.array([np.inf]))


def test_answers_can_be_stored_and_read_back_and_the_worst_errs_most() -> None:
    score = np.array([1.5, -2.0])
    assert REGRESSION.stored(pl.DataFrame(REGRESSION.answers(score, 0.5))).tolist() == score.tolist()
    assert REGRESSION.losses(np.array([1.0, 2.0]), score).tolist() == [0.5, 4.0]


def test_describe_tells_the_middle_and_the_range() -> None:
    assert REGRESSION.describe(np.arange(101.0)) == "median 50, mean 50, 90% between 5 and 95"
    assert REGRESSION.describe(np.empty(0)) == "no rows"
