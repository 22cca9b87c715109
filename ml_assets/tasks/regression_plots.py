"""The plots of a regression: labels and predictions, finite numbers (n,); each returns a PNG.

An error is the prediction minus the label: above 0, the prediction is too high.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ml_assets.tasks import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ERROR = "error (prediction - label)"
POINTS = 500
LEAST_FOR_TAILS = 1_000
TAIL = 0.002
GROUPS = 10
LEAST_IN_GROUP = 5


def predicted_plot(y: np.ndarray, score: np.ndarray, *, title: str = "Predicted over true") -> bytes:
    """Prediction over label; on the diagonal, the prediction is right. Many rows are shown as their density."""
    if len(y) == 0:
        return drawing.sorry(title, "no rows")
    canvas, axes = drawing.figure(_cut(title, y), "label", "prediction")
    limits = _limits(np.concatenate([y, score]))
    _cloud(axes, y, score, limits, limits)
    axes.plot(limits, limits, **drawing.DASHED)
    return drawing.png(canvas)


def error_plot(y: np.ndarray, score: np.ndarray, *, title: str = "Error over predicted") -> bytes:
    """Error over prediction; a slope or a funnel tells where the model errs. Many rows are shown as their density."""
    if len(y) == 0:
        return drawing.sorry(title, "no rows")
    canvas, axes = drawing.figure(_cut(title, y), "prediction", ERROR)
    _cloud(axes, score, score - y, _limits(score), _limits(score - y))
    axes.axhline(0, **drawing.DASHED)
    return drawing.png(canvas)


def histogram(y: np.ndarray, score: np.ndarray, *, title: str = "Errors") -> bytes:
    """How many rows have which error, with the mean and the median error."""
    if len(y) == 0:
        return drawing.sorry(title, "no rows")
    error = score - y
    canvas, axes = drawing.figure(_cut(title, y), ERROR, "rows")
    bins = int(np.clip(np.sqrt(len(y)), 5, 40))
    axes.hist(error, bins=bins, range=_limits(error), color=drawing.BLUE, rwidth=0.9)
    axes.axvline(0, **drawing.DASHED)
    for name, value, color in (("mean", np.mean(error), drawing.ORANGE), ("median", np.median(error), drawing.GREEN)):
        axes.axvline(value, color=color, linewidth=1.6, label=f"{name} {value:.3g}")
    drawing.legend(axes, "upper left")
    return drawing.png(canvas)


def quantile_plot(y: np.ndarray, score: np.ndarray, *, title: str = "Error by size of the prediction") -> bytes:
    """Median error, and the range of the middle 80% of errors, in ten groups of equally many rows by prediction."""
    groups = min(GROUPS, len(y) // LEAST_IN_GROUP)
    if groups < 2:
        return drawing.sorry(title, f"needs {2 * LEAST_IN_GROUP} rows")
    parts = np.array_split(np.argsort(score, kind="stable"), groups)
    low, middle, high = np.array([np.quantile((score - y)[part], [0.1, 0.5, 0.9]) for part in parts]).T
    canvas, axes = drawing.figure(title, "mean prediction of the group", ERROR)
    place = np.array([np.mean(score[part]) for part in parts])
    axes.axhline(0, **drawing.DASHED)
    axes.vlines(place, low, high, color=drawing.BLUE, linewidth=6, alpha=0.25, label="80% of the rows")
    axes.plot(place, middle, label="median", **drawing.DOTTED)
    axes.margins(y=0.15)
    drawing.legend(axes, "upper left", ncols=2)
    return drawing.png(canvas)


def _cloud(axes: Axes, x: np.ndarray, y: np.ndarray, across: tuple[float, float], up: tuple[float, float]) -> None:
    """Points when they are few, else hexagons: the darker, the more rows (in logarithm)."""
    if len(x) <= POINTS:
        axes.plot(x, y, "o", color=drawing.BLUE, markersize=3, alpha=0.5, markeredgewidth=0)
    else:
        extent = (*across, *up)
        inside = (x >= across[0]) & (x <= across[1]) & (y >= up[0]) & (y <= up[1])
        axes.hexbin(x[inside], y[inside], gridsize=36, bins="log", mincnt=1, cmap="Blues", linewidths=0, extent=extent)
    axes.set(xlim=across, ylim=up)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """From the least to the greatest; of many values without the outermost 0.2% on each side; with some room."""
    tail = TAIL if len(values) >= LEAST_FOR_TAILS else 0.0
    low, high = (float(value) for value in np.quantile(values, [tail, 1 - tail]))
    room = 0.04 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - room, high + room


def _cut(title: str, y: np.ndarray) -> str:
    return f"{title} (inner {1 - 2 * TAIL:.1%})" if len(y) >= LEAST_FOR_TAILS else title
