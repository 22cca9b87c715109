"""Calibration mends scores that say too much, and leaves those alone that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.development.calibration import LEAST_ISOTONIC_ROWS, calibrate
from ml_assets.development.links import Isotonic, Logistic, Temperature, applied
from ml_assets_tests.development.toys import BINARY, NUMBERS, THREE


def chances(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and labels that are drawn with them."""
    random = np.random.default_rng(seed)
    truth = 1 / (1 + np.exp(-1.5 * random.normal(size=rows)))
    return truth, (random.random(rows) < truth).astype(int)


def sharpened(truth: np.ndarray, power: float) -> np.ndarray:
    """Return probabilities whose log-odds are `power` times as far from even."""
    odds = (truth / (1 - truth)) ** power
    return odds / (1 + odds)


@pytest.mark.parametrize("power", [3.0, 0.3])
def test_scores_that_say_too_much_or_too_little_are_mended(power: float) -> None:
    truth, y = chances(900)
    made = calibrate(BINARY, y, sharpened(truth, power), seed=0)
    (link,) = made.links
    assert isinstance(link, Logistic) and made.reason.startswith("logistic applied: log-loss")
    new, fresh = chances(5_000, seed=1)
    mended = applied(made.links, sharpened(new, power))
    assert np.abs(mended - new).mean() < 0.03 < np.abs(sharpened(new, power) - new).mean()
    metric = BINARY.metric("expected_calibration_error")
    assert metric.compute(fresh, mended) < 0.4 * metric.compute(fresh, sharpened(new, power))  # type: ignore[operator]


@pytest.mark.parametrize("rows", [150, 900, 5_000])
def test_scores_that_mean_what_they_say_are_left_alone(rows: int) -> None:
    applied_to = []
    for seed in range(5):
        truth, y = chances(rows, seed)
        made = calibrate(BINARY, y, truth, seed=0)
        applied_to += made.links
        assert made.links or made.reason.startswith("not applied: log-loss")
    assert len(applied_to) <= 1, "by chance, one of the draws may look uncalibrated"


def test_isotonic_is_tried_from_a_thousand_rows_only() -> None:
    truth, y = chances(LEAST_ISOTONIC_ROWS)
    assert set(calibrate(BINARY, y, truth, seed=0).log_loss) == {"as it is", "logistic", "isotonic"}
    assert set(calibrate(BINARY, y[:-1], truth[:-1], seed=0).log_loss) == {"as it is", "logistic"}


def test_isotonic_mends_what_no_curve_of_log_odds_can() -> None:
    truth, y = chances(8_000)
    made = calibrate(BINARY, y, np.where(truth > 0.5, 0.5 + (truth - 0.5) / 5, truth), seed=0)
    (link,) = made.links
    assert isinstance(link, Isotonic) and made.reason.startswith("isotonic applied")
    assert min(link.y) > 0 and max(link.y) < 1, "never quite sure"


def three(rows: int, power: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.dirichlet([1, 1, 1], rows)
    y = (random.random((rows, 1)) > truth.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    sharp = truth**power
    return truth, y, sharp / sharp.sum(axis=1, keepdims=True)


def test_several_classes_get_a_temperature_where_it_helps() -> None:
    truth, y, score = three(900, 3.0)
    (link,) = calibrate(THREE, y, score, seed=0).links
    assert isinstance(link, Temperature) and link.temperature == pytest.approx(3.0, rel=0.2)
    assert calibrate(THREE, *three(900, 1.0)[1:], seed=0).links == ()
    assert truth.shape == (900, 3)


def test_a_rare_class_does_not_keep_the_others_from_being_calibrated() -> None:
    _, y, score = three(900, 3.0)
    few = np.where(y == 2, 0, y)
    few[:2] = 2
    assert "temperature" in calibrate(THREE, few, score, seed=0).log_loss


def test_where_it_does_not_apply_it_says_why() -> None:
    truth, y = chances(500)
    assert "no probabilities" in calibrate(NUMBERS, truth, truth, seed=0).reason
    assert "99 rows are fewer than 100" in calibrate(BINARY, y[:99], truth[:99], seed=0).reason
    for labels in (np.zeros(500, dtype=int), np.array([1] * 4 + [0] * 496)):
        made = calibrate(BINARY, labels, truth, seed=0)
        assert made == type(made)((), "not applicable: of each class there should be 5 rows", {})


def test_the_same_seed_gives_the_same() -> None:
    truth, y = chances(1_500)
    assert calibrate(BINARY, y, sharpened(truth, 2), seed=3) == calibrate(BINARY, y, sharpened(truth, 2), seed=3)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), rows=st.integers(100, 300), digits=st.integers(0, 3))
def test_whatever_the_scores_answers_stay_probabilities(seed: int, rows: int, digits: int) -> None:
    random = np.random.default_rng(seed)
    score, y = np.round(random.random(rows), digits), random.integers(0, 2, rows)
    made = calibrate(BINARY, y, score, seed=0)
    BINARY.check(y, applied(made.links, score))
    assert all(np.isfinite(loss) for loss in made.log_loss.values())
