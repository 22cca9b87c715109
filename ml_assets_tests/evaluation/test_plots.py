"""Plots: small PNGs with something on them, also for awkward input."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from ml_assets.evaluation import plots

GENERATOR = np.random.default_rng(0)
FEATURES = np.where(GENERATOR.random((2000, 15)) < 0.1, np.nan, GENERATOR.normal(size=(2000, 15)))
SHAP = GENERATOR.normal(size=(2000, 15)) * np.linspace(0, 3, 15)
TRIALS = [3.0, None, 2.0, 2.5, None, 1.8]
NAMES = [f"a_feature_with_quite_a_long_name_{number}" for number in range(40)]
WEEKS = [datetime(2013, 11, 1, tzinfo=UTC) + timedelta(days=7 * week) for week in range(9)]


def value(thresholds: np.ndarray, values: np.ndarray) -> bytes:
    return plots.value_plot(
        thresholds, values, threshold=0.3, chosen=120.0, everything=300.0, nothing=-900.0, unit="USD"
    )


def drift_map(columns: int, windows: int) -> bytes:
    effects = {name: [None, *np.linspace(0, 0.02 * at, windows)][:windows] for at, name in enumerate(NAMES[:columns])}
    alarms = {name: [(one or 0) > 0.2 for one in row] for name, row in effects.items()}
    weeks = [f"{WEEKS[0] + timedelta(days=7 * week):%Y-%m-%d}" for week in range(windows)]
    return plots.drift_map(
        weeks, effects, limit=0.2, alarms=alarms, versions=["1"] * (windows // 2) + ["2"] * (windows - windows // 2)
    )


PLOTS: dict[str, Callable[[], bytes]] = {
    "candidates": lambda: plots.candidates_plot(
        {"baseline": 0.6, "xgboost": 0.74, "neural": None},
        metric="roc_auc",
        selected="xgboost",
        target=0.68,
    ),
    "drift": lambda: plots.drift_plot(
        dict(zip(NAMES, [None, *np.linspace(0, 0.4, 39)], strict=True)), limit=0.2, drifted=NAMES[-3:]
    ),
    "drift map": lambda: drift_map(40, 12),
    "drift map of one": lambda: drift_map(1, 1),
    "no windows": lambda: plots.drift_map([], {}, limit=0.2, alarms={}),
    "timeline": lambda: plots.timeline_plot(
        WEEKS, [0.74, None, 0.75, *[0.7] * 6], metric="roc_auc", expected=0.74, limit=0.71
    ),
    "timeline of one": lambda: plots.timeline_plot(WEEKS[:1], [0.7], metric="roc_auc"),
    "importance": lambda: plots.importance_plot(
        dict(zip(NAMES, np.linspace(-0.01, 0.2, 40), strict=True)),
        metric="roc_auc",
        intervals={NAMES[-1]: (0.1, 0.3), NAMES[0]: None},
    ),
    "importance of nothing": lambda: plots.importance_plot({"a": 0.0, "b": -0.1}, metric="mae"),
    "learning curve": lambda: plots.learning_curve_plot(
        [100 * 2**step for step in range(9)], np.linspace(0.9, 0.8, 9), [None, *np.linspace(0.6, 0.8, 8)], metric="f1"
    ),
    "learning curve of one size": lambda: plots.learning_curve_plot([120], [0.9], [0.8], metric="f1"),
    "shap": lambda: plots.shap_plot(SHAP, FEATURES, NAMES[:15], unit="log-odds"),
    "shap of one row": lambda: plots.shap_plot(SHAP[:1, :2], FEATURES[:1, :2], NAMES[:2]),
    "shap without effect or values": lambda: plots.shap_plot(np.zeros((5, 1)), np.full((5, 1), np.nan), NAMES[:1]),
    "trials": lambda: plots.trials_plot(TRIALS, metric="mae", greater_is_better=False),
    "one trial": lambda: plots.trials_plot([0.5], metric="mae", greater_is_better=False),
    "value": lambda: value(np.linspace(1, 0, 50), np.linspace(-900, 300, 50)),
    "value without rows": lambda: value(np.empty(0), np.empty(0)),
    "no candidates": lambda: plots.candidates_plot({}, metric="roc_auc"),
    "no features": lambda: plots.drift_plot({}, limit=0.2),
    "no importance": lambda: plots.importance_plot({}, metric="mae"),
    "no learning": lambda: plots.learning_curve_plot([10], [0.9], [None], metric="mae"),
    "no rows to explain": lambda: plots.shap_plot(np.empty((0, 2)), np.empty((0, 2)), NAMES[:2]),
    "no trial with a value": lambda: plots.trials_plot([None, None], metric="mae", greater_is_better=True),
    "no periods": lambda: plots.timeline_plot(WEEKS[:2], [None, None], metric="roc_auc"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_is_a_small_png_with_something_on_it(name: str) -> None:
    png = PLOTS[name]()
    assert len(png) <= 25_000
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert image.size == (450, 350)
        assert len(image.convert("RGB").getcolors(100_000) or []) > 5


def test_the_same_input_gives_the_same_bytes() -> None:
    assert PLOTS["shap"]() == PLOTS["shap"]()


def test_pyplot_is_not_touched() -> None:
    PLOTS["shap"]()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_the_swarm_is_blue_to_red_by_rank() -> None:
    ranks = plots._ranks(np.array([10.0, np.nan, 10.0, -5.0, 1e9]))
    np.testing.assert_array_equal(ranks, [0.5, np.nan, 0.5, 0.125, 0.875])
