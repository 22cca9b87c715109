"""Estimates before labels come: they hold the realised value where probabilities are true, and cannot see a changed concept."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest

from ml_assets.evaluation.metrics import evaluate
from ml_assets.monitoring.estimation import Estimator, fit_estimator
from ml_assets.tasks import Task
from ml_assets_tests.development.samples import TASKS

TEST, WEEK = 3_000, 600
Rows = tuple[pl.DataFrame, np.ndarray, np.ndarray]


def binary(rows: int, random: np.random.Generator, shift: float = 0.0) -> Rows:
    x = random.normal(shift, 1.5, rows)
    chance = 1 / (1 + np.exp(1.5 - x))
    return pl.DataFrame({"x": x}), (random.random(rows) < chance).astype(np.int64), chance


def multiclass(rows: int, random: np.random.Generator, shift: float = 0.0) -> Rows:
    x = random.normal(shift, 1.5, rows)
    weight = np.exp(np.stack([x, 0.5 - 0 * x, -x], axis=1))
    chance = weight / weight.sum(axis=1, keepdims=True)
    y = (random.random((rows, 1)) > chance.cumsum(axis=1)).sum(axis=1)
    return pl.DataFrame({"x": x}), np.minimum(y, 2), chance


def regression(rows: int, random: np.random.Generator, shift: float = 0.0) -> Rows:
    """Errors that grow with a number and with a text, and have a heavy tail on one side."""
    x, place = random.normal(shift, 1.0, rows), random.choice(["calm", "wild"], rows)
    size = np.exp(0.5 * x) * np.where(place == "wild", 3.0, 1.0)
    score = 10 + 5 * x
    return pl.DataFrame({"x": x, "place": place}), score + size * (random.exponential(1.0, rows) - 0.7), score


SAMPLES = {"binary": binary, "multiclass": multiclass, "regression": regression}
SHOWN = {
    "binary": ("roc_auc", "pr_auc", "log_loss", "brier", "accuracy", "precision", "recall", "f1"),
    "multiclass": ("accuracy", "log_loss", "brier", "f1_macro", "roc_auc_macro"),
    "regression": ("mae", "median_ae", "rmse", "bias", "pinball_90", "r2"),
}


@cache
def fitted(kind: str, seed: int = 0) -> Estimator:
    frame, y, score = SAMPLES[kind](TEST, np.random.default_rng(seed))
    found = fit_estimator(frame, y, score, task=TASKS[kind], threshold=0.5, features=frame.columns)
    assert isinstance(found, Estimator), found
    return found


def realised(task: Task, y: np.ndarray, score: np.ndarray) -> dict[str, float]:
    return {
        name: value
        for name, value in evaluate(y, score, threshold=0.5, task=task).items()
        if not isinstance(value, str)
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAMPLES)
def test_the_interval_holds_the_realised_value_at_about_its_level(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five test splits and six weeks for each: answers say the truth, so 95 % should be held. Weeks of a split go together."""
    held, weeks = dict.fromkeys(SHOWN[kind], 0), 0
    for split in range(5):
        estimator = fitted(kind, split)
        for week in range(6):
            weeks += 1
            frame, y, score = SAMPLES[kind](WEEK, np.random.default_rng(1_000 * (split + 1) + week))
            truth = realised(TASKS[kind], y, score)
            for name, one in estimator.estimate(frame, score, draws=100).items():
                if name in held:
                    held[name] += one.low <= truth[name] <= one.high
    rate = sum(held.values()) / (weeks * len(held))
    with capsys.disabled():
        print(f"\n{kind}: {rate:.1%} of {weeks} weeks x {len(held)} metrics lay in the 95 % interval: {held}")
    assert rate > 0.88
    assert min(held.values()) >= 0.75 * weeks


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_estimate_follows_the_rows_to_where_they_are_harder(kind: str) -> None:
    estimator, metric = fitted(kind), {"regression": "mae"}.get(kind, "log_loss")
    found = []
    for shift in (0.0, 1.5):
        frame, y, score = SAMPLES[kind](5 * WEEK, np.random.default_rng(7), shift)
        truth, one = realised(TASKS[kind], y, score)[metric], estimator.estimate(frame, score)[metric]
        assert one.value == pytest.approx(truth, rel=0.15)
        found.append((truth, one.value))
    (easy, easy_estimate), (hard, hard_estimate) = found
    assert abs(hard - easy) > 0.1 * easy
    assert (hard_estimate - easy_estimate) / (hard - easy) == pytest.approx(1, abs=0.35)


def test_each_row_errs_by_its_own_size() -> None:
    """Were all rows taken for average ones, the median error would be estimated a third too large."""
    frame, y, score = regression(5 * WEEK, np.random.default_rng(7))
    truth, found = realised(TASKS["regression"], y, score), fitted("regression").estimate(frame, score)
    for name in ("median_ae", "rmse"):
        assert found[name].value == pytest.approx(truth[name], rel=0.12)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_another_concept_is_not_seen_by_the_estimate_but_by_the_labels(kind: str) -> None:
    estimator, metric = fitted(kind), "roc_auc" if kind == "binary" else "roc_auc_macro"
    frame, y, score = SAMPLES[kind](WEEK, np.random.default_rng(5))
    flipped = (2 - y) if kind == "multiclass" else 1 - y
    one = estimator.estimate(frame, score)[metric]
    assert one.low <= realised(TASKS[kind], y, score)[metric] <= one.high
    assert realised(TASKS[kind], flipped, score)[metric] < one.low - 0.2


def test_expected_counts_are_the_sums_of_the_probabilities() -> None:
    """The oracle: of answers that are probabilities, expected accuracy, Brier score and log loss have a closed form."""
    estimator = fitted("binary")
    frame, _, chance = binary(WEEK, np.random.default_rng(3))
    found = estimator.estimate(frame, chance, draws=2_000)
    right = np.where(chance >= 0.5, chance, 1 - chance).mean()
    entropy = -(chance * np.log(chance) + (1 - chance) * np.log1p(-chance)).mean()
    for name, expected in (("accuracy", right), ("brier", (chance * (1 - chance)).mean()), ("log_loss", entropy)):
        assert found[name].value == pytest.approx(expected, abs=4 * (found[name].chance / 2_000) ** 0.5)
    spread = np.sqrt((chance * (1 - chance)).sum()) / WEEK  # of the accuracy: Poisson-binomial
    assert found["accuracy"].chance ** 0.5 == pytest.approx(spread, rel=0.1)


def test_probabilities_that_lie_are_calibrated_first() -> None:
    random = np.random.default_rng(0)
    frame, y, chance = binary(TEST, random)
    boastful = chance**3 / (chance**3 + (1 - chance) ** 3)
    found = fit_estimator(frame, y, boastful, task=TASKS["binary"], threshold=0.5, features=["x"])
    assert isinstance(found, Estimator)
    frame, y, chance = binary(WEEK, random)
    boastful = chance**3 / (chance**3 + (1 - chance) ** 3)
    truth, one = realised(TASKS["binary"], y, boastful), found.estimate(frame, boastful)["log_loss"]
    naive = -(boastful * np.log(boastful) + (1 - boastful) * np.log1p(-boastful)).mean()
    assert one.low <= truth["log_loss"] <= one.high
    assert naive < one.low


def test_estimates_that_were_wrong_widen_those_that_come() -> None:
    estimator = fitted("binary")
    frame, _, score = binary(WEEK, np.random.default_rng(3))
    plain = estimator.estimate(frame, score)["roc_auc"]
    wrong = estimator.estimate(frame, score, seen={"roc_auc": [0.1**2] * 5})["roc_auc"]
    assert wrong.value == plain.value
    assert wrong.high - wrong.low > 2 * (plain.high - plain.low)
    assert plain.excess(plain.value + 0.1) == pytest.approx(0.01 - plain.chance)


def test_the_same_rows_give_the_same_estimate() -> None:
    frame, _, score = regression(WEEK, np.random.default_rng(3))
    one, other = (fitted.__wrapped__("regression").estimate(frame, score) for _ in range(2))
    assert one == other


def test_gaps_and_values_never_seen_are_estimated_too() -> None:
    frame, _, score = regression(WEEK, np.random.default_rng(3))
    strange = frame.with_columns(
        x=pl.when(pl.int_range(pl.len()) % 2 == 0).then(None).otherwise(float("inf")), place=pl.lit("unheard of")
    )
    found = fitted("regression").estimate(strange, score)
    assert found["mae"].low <= found["mae"].value <= found["mae"].high
    retyped = frame.with_columns(x=pl.col("x").cast(pl.String), place=pl.lit(7))
    assert np.isfinite(fitted("regression").estimate(retyped, score)["mae"].value)


def test_where_nothing_can_be_estimated_the_reason_is_told() -> None:
    frame, y, score = binary(199, np.random.default_rng(0))
    few = fit_estimator(frame, y, score, task=TASKS["binary"], threshold=0.5, features=["x"])
    assert few == "the test split has 199 rows, fewer than 200"
    cluster = fit_estimator(frame, y, y, task=TASKS["clustering"], threshold=0.5, features=["x"])
    assert cluster == "a clustering has no outcome"


def test_a_metric_that_the_test_split_does_not_have_is_not_estimated() -> None:
    frame, y, score = binary(TEST, np.random.default_rng(0))
    found = fit_estimator(frame, 0 * y, score, task=TASKS["binary"], threshold=0.5, features=["x"])
    assert isinstance(found, Estimator)
    assert "roc_auc" not in found.excess and "brier" in found.excess
    assert found.estimate(frame.clear(), score[:0]) == {}
