"""Metrics and intervals: scikit-learn is the oracle of each number, known truth that of the intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error

from benchmarks.quality_scores import FORMULAS, RESAMPLES, Answer, Difference, difference, value

METRICS = ("roc_auc", "log_loss", "rmse")


def answer(metric: str, *, rows: int, seed: int, skill: float = 1.0) -> Answer:
    """Rows whose score tells more of the truth, the greater the skill."""
    random = np.random.default_rng(seed)
    y = np.arange(rows) % 3 if metric == "log_loss" else np.arange(rows) % 2
    noise = np.random.default_rng(seed + 1).normal(size=(rows, 3))
    if metric == "log_loss":
        raised = np.exp(skill * np.eye(3)[y] + noise)
        return Answer(y, raised / raised.sum(axis=1, keepdims=True))
    truth = y if metric == "roc_auc" else random.normal(size=rows)
    return Answer(truth, truth + noise[:, 0].round(1) / skill)


def by_sklearn(metric: str, one: Answer, weights: np.ndarray) -> float:
    oracles = {"roc_auc": roc_auc_score, "log_loss": log_loss, "rmse": root_mean_squared_error}
    return float(oracles[metric](one.y, one.score, sample_weight=weights))


@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 10_000), rows=st.integers(6, 40))
def test_a_weighted_metric_is_scikit_learns(metric: str, seed: int, rows: int) -> None:
    one = answer(metric, rows=rows, seed=seed)
    weights = np.random.default_rng(seed).integers(1, 4, size=(2, rows)).astype(float)
    found = FORMULAS[metric](one.y, one.score, weights)
    assert found == pytest.approx([by_sklearn(metric, one, row) for row in weights])
    assert value(metric, [one]) == pytest.approx(by_sklearn(metric, one, np.ones(rows)))


def test_ties_count_half() -> None:
    assert value("roc_auc", [Answer(np.array([0, 1, 0, 1]), np.array([0.5, 0.5, 0.5, 0.5]))]) == 0.5


def test_one_sure_mistake_does_not_decide() -> None:
    sure = np.array([[1.0, 0.0, 0.0]] * 10)
    assert value("log_loss", [Answer(np.array([0] * 9 + [1]), sure)]) == pytest.approx(-np.log(1e-4) / 10)


@pytest.mark.parametrize("metric", METRICS)
def test_more_skill_is_better_and_the_other_way_worse(metric: str) -> None:
    good, bad = (answer(metric, rows=900, seed=3, skill=skill) for skill in (2.0, 0.5))
    found = difference(metric, [good], [bad])
    assert found.verdict == "better"
    assert found.low < found.value < found.high
    turned = difference(metric, [bad], [good])
    assert (turned.verdict, turned.value) == ("worse", pytest.approx(-found.value))
    assert difference(metric, [good], [good]) == Difference(0.0, 0.0, 0.0)


@pytest.mark.parametrize("metric", ["roc_auc", "rmse"])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(metric: str) -> None:
    """Two arms that differ by independent noise of one size differ by chance alone: about 95 of 100 times within."""
    outside = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        y = np.arange(200) % 2 if metric == "roc_auc" else random.normal(size=200)
        mine, theirs = (Answer(y, y + random.normal(size=200)) for _ in range(2))
        outside += difference(metric, [mine], [theirs]).verdict != "within noise"
    assert 1 <= outside <= 12


def test_several_splits_narrow_the_interval() -> None:
    pairs = [(answer("rmse", rows=100, seed=seed), answer("rmse", rows=100, seed=seed)) for seed in range(9)]
    worse = [Answer(one.y, one.score * 1.05) for one, _ in pairs]
    one, all_of_them = difference("rmse", [pairs[0][0]], worse[:1]), difference("rmse", [p for p, _ in pairs], worse)
    assert all_of_them.high - all_of_them.low < (one.high - one.low) / 2


def test_resamples_without_a_class_are_left_out() -> None:
    y = np.array([1, 0, 0, 0, 0, 0])
    found = difference("roc_auc", [Answer(y, y.astype(float))], [Answer(y, 1.0 - y)])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    assert RESAMPLES == 1_000


def test_answers_to_other_rows_are_refused() -> None:
    one = answer("rmse", rows=10, seed=1)
    with pytest.raises(ValueError, match="did not answer the same test rows"):
        difference("rmse", [one], [Answer(one.y + 1, one.score)])
    with pytest.raises(ValueError, match="did not answer the same test rows"):
        difference("rmse", [one, one], [one])
