"""The tasks' plots: small PNGs with something on them, also for awkward rows."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from ml_assets.tasks import Task, drawing, task

GENERATOR = np.random.default_rng(0)
THRESHOLD = 0.4


def binary(rows: int) -> tuple[Task, np.ndarray, np.ndarray]:
    score = GENERATOR.random(rows)
    return task("classification"), (GENERATOR.random(rows) < score).astype(float), score


def several(rows: int, classes: int, name: str = "class {}") -> tuple[Task, np.ndarray, np.ndarray]:
    y = GENERATOR.integers(0, classes, rows)
    score = GENERATOR.random((rows, classes)) ** 3
    score[np.arange(rows), y] += 0.5
    names = [name.format(number) for number in range(classes)]
    return task("classification", classes=names), y, score / score.sum(axis=1, keepdims=True)


def number(rows: int, *, spread: float = 1.0) -> tuple[Task, np.ndarray, np.ndarray]:
    y = GENERATOR.gamma(1, 30, rows)
    return task("regression"), y, spread * (y * 0.6 + GENERATOR.normal(size=rows) * 9)


def groups(rows: int, clusters: int, width: int = 5) -> tuple[Task, np.ndarray, np.ndarray]:
    cluster = GENERATOR.integers(-1, clusters, rows)
    y = GENERATOR.normal(size=(rows, width))
    if width:
        y[:, 0] += 5 * cluster
    return task("clustering"), y, cluster


TITLES = {
    "probability": ["ROC", "precision-recall", "calibration", "confusion"],
    "probabilities": ["confusion", "ROC", "calibration", "recall by class"],
    "value": ["predicted over true", "error over predicted", "errors", "error quantiles"],
    "cluster": ["map", "silhouette", "sizes"],
}

ROWS = {
    "binary": lambda: binary(3000),
    "binary, no rows": lambda: binary(0),
    "nineteen classes of two rows": lambda: several(2, 19),
    "fifty classes with names like $a_b$": lambda: several(3000, 50, "a $quite_long$ name of class {}"),
    "several classes, no rows": lambda: several(0, 3),
    "numbers": lambda: number(200),
    "many numbers": lambda: number(30_000),
    "one and the same prediction": lambda: number(50, spread=0),
    "one number": lambda: number(1),
    "no numbers": lambda: number(0),
    "clusters": lambda: groups(800, 4),
    "many clusters of few rows": lambda: groups(60, 25),
    "one feature": lambda: groups(100, 2, 1),
    "no features": lambda: groups(9, 2, 0),
    "noise only": lambda: groups(100, 0),
    "one row": lambda: groups(1, 2),
    "no rows of clusters": lambda: groups(0, 2),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_plot_is_a_small_png_with_something_on_it(name: str) -> None:
    found, y, score = ROWS[name]()
    plots = found.plots(y, score, THRESHOLD)
    assert list(plots) == TITLES[found.output]
    for title, png in plots.items():
        assert len(png) <= 25_000, title
        with Image.open(io.BytesIO(png)) as image:
            assert image.format == "PNG"
            assert image.size == (450, 350)
            assert len(image.convert("RGB").getcolors(100_000) or []) > 5, title


def test_the_same_rows_give_the_same_bytes_and_pyplot_is_not_touched() -> None:
    found, y, score = groups(300, 3)
    assert found.plots(y, score, THRESHOLD) == found.plots(y, score, THRESHOLD)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_a_long_name_keeps_its_ends_and_dollars_are_no_mathematics() -> None:
    assert drawing.shorten("short") == "short"
    assert drawing.shorten("a_long_name_of_feature_7", 11) == "a_lon…ure_7"
    assert len(drawing.shorten("x" * 99)) == drawing.NAME_LENGTH
    assert drawing.shorten("price_$") == r"price_\$"


def test_markdown_holds_the_picture() -> None:
    assert drawing.as_markdown(b"abc", "Drift [week\n1]") == "![Drift (week 1)](data:image/png;base64,YWJj)"
