"""The sweep of thresholds: exact money at each, and no gain that is only luck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.monitoring.kpi_shown import sweep_plot, sweep_sentence
from ml_assets.monitoring.sweep import Sweep, sweep
from ml_assets.tasks.value import Value, declared_value
from ml_assets_tests.development.samples import TASKS


def value(hit: float = 40.0, alarm: float = -15.0) -> Value:
    found = declared_value(TASKS["binary"], {"true_positive": hit, "false_positive": alarm})
    assert found is not None
    return found


def drawn(rows: int, days: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, calibrated scores and days."""
    random = np.random.default_rng(seed)
    score = random.beta(1, 3, rows)
    return (random.random(rows) < score).astype(int), score, np.arange(rows) * days // rows


def swept(rows: int = 6_000, days: int = 60, *, threshold: float, seed: int = 0) -> Sweep:
    y, score, day = drawn(rows, days, seed=seed)
    found = sweep(value(), y, score, day, threshold=threshold)
    assert found is not None
    return found


@settings(max_examples=25)
@given(
    rows=st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.2, 0.5, 1.0])), min_size=1, max_size=60),
    threshold=st.sampled_from([0.0, 0.2, 0.3, 1.0]),
)
def test_the_money_at_each_threshold_is_that_of_its_decisions(rows: list[tuple[bool, float]], threshold: float) -> None:
    y, score = (np.array(column) for column in zip(*rows, strict=True))
    found = sweep(value(), y.astype(int), score, np.arange(len(y)) % 3, threshold=threshold)
    assert found is not None
    for limit, worth in zip(found.thresholds, found.values, strict=True):
        assert worth == pytest.approx(value().earned(y, score >= limit).sum())
    assert found.thresholds[found.present] == threshold
    assert found.values[0] == pytest.approx(value().earned(y, np.ones(len(y))).sum())  # always
    assert found.values[-1] == 0.0  # never
    assert found.missed >= 0


def test_a_bad_threshold_is_worth_a_change() -> None:
    found = swept(threshold=0.8)  # the best is 15 / 55
    assert found.pays and found.missed > 0
    assert found.thresholds[found.best] == pytest.approx(15 / 55, abs=0.1)
    assert "worth a change" in sweep_sentence(found, "USD")


def test_the_best_threshold_is_not_changed_for_noise() -> None:
    found = [swept(rows=2_000, threshold=15 / 55, seed=seed) for seed in range(40)]
    paying = sum(one.pays for one in found)
    assert sum(one.missed > 0 for one in found) >= 35  # on the very rows something else always looks better
    assert paying <= 2
    noisy = next(one for one in found if one.missed and not one.pays)
    assert "no more than noise, keep 0.273" in sweep_sentence(noisy, "USD")


def test_few_days_tell_nothing() -> None:
    found = swept(rows=500, days=3, threshold=0.8)
    assert found.gain is None and not found.pays
    assert "3 days are too few" in sweep_sentence(found, "USD")


def test_without_rows_there_is_no_sweep() -> None:
    assert sweep(value(), np.empty(0), np.empty(0), np.empty(0), threshold=0.5) is None


def test_where_nothing_is_better_the_present_threshold_stays() -> None:
    y, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    found = sweep(value(), y, score, np.arange(4), threshold=0.5)
    assert found is not None and found.best == found.present and found.missed == 0
    assert sweep_sentence(found, "") == "No other threshold would have earned more than the present one, 0.5."


def test_the_plot_marks_both() -> None:
    assert sweep_plot(swept(threshold=0.8), "USD").startswith(b"\x89PNG")
