"""Plots: small PNGs with something on them, also for awkward input."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from ml_assets.evaluation import plots

GENERATOR = np.random.default_rng(0)
SCORE = GENERATOR.random(3000)
Y = (GENERATOR.random(3000) < SCORE).astype(float)
NAMES = [f"a_feature_with_quite_a_long_name_{number}" for number in range(40)]
WEEKS = [datetime(2013, 11, 1, tzinfo=UTC) + timedelta(days=7 * week) for week in range(9)]

PLOTS: dict[str, Callable[[], bytes]] = {
    "roc": lambda: plots.roc_plot(Y, SCORE, threshold=0.4),
    "pr": lambda: plots.pr_plot(Y, SCORE, threshold=0.4),
    "pr, threshold above all": lambda: plots.pr_plot(Y, SCORE, threshold=2.0),
    "calibration": lambda: plots.calibration_plot(Y, SCORE),
    "confusion": lambda: plots.confusion_plot(Y, SCORE, threshold=0.4),
    "candidates": lambda: plots.candidates_plot(
        {"baseline": 0.6, "xgboost": 0.74, "neural": None},
        metric="roc_auc",
        selected="xgboost",
        intervals={"xgboost": (0.73, 0.75), "baseline": None},
        target=0.68,
    ),
    "drift": lambda: plots.drift_plot(
        dict(zip(NAMES, [None, *np.linspace(0, 0.4, 39)], strict=True)), limit=0.2, drifted=NAMES[-3:]
    ),
    "timeline": lambda: plots.timeline_plot(
        WEEKS, [0.74, None, 0.75, *[0.7] * 6], metric="roc_auc", expected=0.74, limit=0.71, versions=list("111112222")
    ),
    "timeline of one": lambda: plots.timeline_plot(WEEKS[:1], [0.7], metric="roc_auc"),
    "roc, one class": lambda: plots.roc_plot(np.ones(5), np.full(5, 0.5)),
    "pr, one class": lambda: plots.pr_plot(np.ones(5), np.full(5, 0.5)),
    "calibration, no rows": lambda: plots.calibration_plot(np.empty(0), np.empty(0)),
    "confusion, no rows": lambda: plots.confusion_plot(np.empty(0), np.empty(0), threshold=0.5),
    "no candidates": lambda: plots.candidates_plot({}, metric="roc_auc"),
    "no features": lambda: plots.drift_plot({}, limit=0.2),
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
    assert PLOTS["roc"]() == PLOTS["roc"]()


def test_pyplot_is_not_touched() -> None:
    PLOTS["roc"]()
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_markdown_holds_the_picture_and_survives_brackets() -> None:
    png = PLOTS["no features"]()
    text = plots.as_markdown(png, "Drift [week\n1]")
    head, data = text.split("base64,")
    assert head == "![Drift (week 1)](data:image/png;"
    assert base64.b64decode(data.rstrip(")")) == png
